use rpc_core::remote;

#[remote]
fn f(#[state] _: String) {}

fn main() {}
