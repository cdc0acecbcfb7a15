use rpc_core::remote;

#[remote(name = "")]
fn f() {}

fn main() {}
