use std::cell::Cell;

use rpc_core::remote;

#[remote]
fn f(#[state] _: &Cell<u8>) {}

fn main() {}
