use rpc_core::{Context, remote};

#[remote]
fn f(_: &Context) {}

fn main() {}
