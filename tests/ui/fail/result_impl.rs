use rpc_core::remote;

#[remote]
fn f() -> impl Iterator<Item = u8> {
    0..9
}

fn main() {}
