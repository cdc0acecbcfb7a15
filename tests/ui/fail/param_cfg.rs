use rpc_core::remote;

#[remote]
fn f(#[cfg(unix)] _: u8) {}

fn main() {}
