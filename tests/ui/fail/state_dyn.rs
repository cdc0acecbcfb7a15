use std::sync::Arc;

use rpc_core::remote;

#[remote]
fn f(#[state] _: Arc<dyn Fn() + Send + Sync>) {}

fn main() {}
