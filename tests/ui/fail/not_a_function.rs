use rpc_core::remote;

#[remote]
pub struct Counter;

fn main() {}
