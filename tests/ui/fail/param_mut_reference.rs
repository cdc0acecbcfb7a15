use rpc_core::remote;

#[remote]
fn f(_: &mut Vec<u8>) {}

fn main() {}
