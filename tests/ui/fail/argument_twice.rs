use rpc_core::remote;

#[remote(inline, inline)]
fn f() {}

fn main() {}
