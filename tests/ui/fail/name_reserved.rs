use rpc_core::remote;

#[remote(name = "rpc.f")]
fn f() {}

fn main() {}
