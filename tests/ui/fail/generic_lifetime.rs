use rpc_core::remote;

#[remote]
fn f<'a>(_: &'a str, _: Option<&'a str>) {}

fn main() {}
