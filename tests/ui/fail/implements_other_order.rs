use rpc_core::remote;

mod shared {
    #[rpc_core::remote]
    pub fn transfer(from: &str, to: &str) -> u64;
}

#[remote(implements = shared::transfer)]
fn transfer(to: &str, from: &str) -> u64 {
    (to.len() + from.len()) as u64
}

fn main() {}
