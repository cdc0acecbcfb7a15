use rpc_core::remote;

#[remote(timeout = "1.5s")]
fn f() {}

fn main() {}
