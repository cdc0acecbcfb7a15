use rpc_core::remote;

#[remote(crate = "::no_such_crate")]
fn f() {}

fn main() {}
