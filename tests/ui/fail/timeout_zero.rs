use rpc_core::remote;

#[remote(timeout = "0s")]
fn f() {}

fn main() {}
