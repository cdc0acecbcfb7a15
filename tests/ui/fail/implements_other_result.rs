use rpc_core::remote;

mod shared {
    #[rpc_core::remote]
    pub fn add(a: u64) -> Result<u64, String>;

    #[rpc_core::remote]
    pub fn plain(a: u64) -> u64;
}

#[remote(implements = shared::add)]
fn add(a: u64) -> Result<u32, u8> {
    u32::try_from(a).map_err(|_| 1)
}

#[remote(implements = shared::plain)]
fn plain(a: u64) -> Result<u64, String> {
    Ok(a)
}

fn main() {}
