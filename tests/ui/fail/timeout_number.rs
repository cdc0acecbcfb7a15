use rpc_core::remote;

#[remote(timeout = 2)]
fn f() {}

fn main() {}
