use rpc_core::remote;

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Failed;

#[remote]
pub fn f() -> Result<u8, Failed> {
    Err(Failed)
}

fn main() {}
