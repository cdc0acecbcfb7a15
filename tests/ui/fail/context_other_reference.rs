use rpc_core::remote;

#[remote]
fn f(#[context] _: &u8) {}

fn main() {}
