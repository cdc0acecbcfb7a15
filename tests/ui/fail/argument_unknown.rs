use rpc_core::remote;

#[remote(encoding = "json")]
fn f() {}

fn main() {}
