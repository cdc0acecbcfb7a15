mod shared {
    #[rpc_core::remote]
    pub fn add(a: u64, b: u64) -> u64;
}

use shared::add;

#[rpc_core::remote]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

fn main() {}
