use rpc_core::remote;

#[remote(inline)]
fn f();

fn main() {}
