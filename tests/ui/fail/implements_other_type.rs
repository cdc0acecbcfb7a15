use rpc_core::remote;

mod shared {
    #[rpc_core::remote]
    pub fn transfer(from: &str, amount: u64) -> Result<u64, String>;
}

#[remote(implements = shared::transfer)]
fn transfer(from: String, amount: u32) -> Result<u64, String> {
    Ok(from.len() as u64 + u64::from(amount))
}

fn main() {}
