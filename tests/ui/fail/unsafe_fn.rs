use rpc_core::remote;

#[remote]
unsafe fn f() {}

fn main() {}
