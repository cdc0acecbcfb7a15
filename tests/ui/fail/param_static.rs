use rpc_core::remote;

#[remote]
fn f(_: Option<&'static str>) {}

fn main() {}
