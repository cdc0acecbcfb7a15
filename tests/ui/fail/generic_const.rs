use rpc_core::remote;

#[remote]
fn f<const N: usize>(_: [u8; N]) {}

fn main() {}
