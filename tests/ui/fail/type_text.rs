use rpc_core::remote;

#[remote(type = "F")]
fn f() {}

fn main() {}
