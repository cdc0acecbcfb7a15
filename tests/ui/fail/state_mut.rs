use rpc_core::remote;

#[remote]
fn f(#[state] _: &mut String) {}

fn main() {}
