use rpc_core::remote;

#[remote]
fn f(#[state] cache: &String);

fn main() {}
