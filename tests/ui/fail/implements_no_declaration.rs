use rpc_core::remote;

#[remote]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[remote(implements = add)]
fn add_too(a: u64, b: u64) -> u64 {
    a + b
}

fn main() {}
