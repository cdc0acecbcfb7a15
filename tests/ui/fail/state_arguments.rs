use rpc_core::remote;

#[remote]
fn f(#[state(cache)] _: &String) {}

fn main() {}
