use std::borrow::Cow;

use rpc_core::remote;

#[remote]
fn f(_: Cow<str>) {}

fn main() {}
