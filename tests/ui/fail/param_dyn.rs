use rpc_core::remote;

#[remote]
fn f(_: Box<dyn Fn()>) {}

fn main() {}
