use rpc_core::remote;

#[remote]
extern "C" fn f() {}

fn main() {}
