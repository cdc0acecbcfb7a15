use rpc_core::remote;

#[remote]
fn f() -> impl Fn() -> u8 {
    || 0
}

fn main() {}
