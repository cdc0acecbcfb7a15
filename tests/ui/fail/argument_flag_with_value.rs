use rpc_core::remote;

#[remote(idempotent = true)]
fn f() {}

fn main() {}
