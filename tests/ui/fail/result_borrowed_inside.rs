use rpc_core::remote;

#[remote]
fn f(bytes: &[u8]) -> Result<Vec<&[u8]>, String> {
    Ok(vec![bytes])
}

fn main() {}
