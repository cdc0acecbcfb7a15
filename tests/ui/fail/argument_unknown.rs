use rpc_core::remote;

#[remote(retries = 3)]
fn f() {}

fn main() {}
