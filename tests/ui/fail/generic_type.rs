use rpc_core::remote;

#[remote]
fn f<T>(_: T) {}

fn main() {}
