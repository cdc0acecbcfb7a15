use rpc_core::remote;

#[remote]
const fn f() {}

fn main() {}
