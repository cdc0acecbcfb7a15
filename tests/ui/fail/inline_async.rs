use rpc_core::remote;

#[remote(inline)]
async fn f() {}

fn main() {}
