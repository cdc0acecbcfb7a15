use rpc_core::remote;

mod shared {
    #[rpc_core::remote]
    pub fn add(a: u64, b: u64) -> u64;
}

#[remote(implements = shared::add)]
fn fewer(a: u64) -> u64 {
    a
}

#[remote(implements = shared::add)]
fn more(a: u64, b: u64, c: u64) -> u64 {
    a + b + c
}

fn main() {}
