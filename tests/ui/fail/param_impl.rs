use rpc_core::remote;

#[remote]
fn f(_: impl AsRef<str>) {}

fn main() {}
