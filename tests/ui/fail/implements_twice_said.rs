use rpc_core::remote;

mod shared {
    #[rpc_core::remote]
    pub fn add(a: u64, b: u64) -> u64;
}

#[remote(implements = shared::add, idempotent, name = "plus")]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[remote(implements = shared::add)]
fn declared(a: u64, b: u64) -> u64;

fn main() {}
