use rpc_core::remote;

#[remote]
fn rows(query: &str) -> Result<impl Iterator<Item = Result<u32, u64>>, String> {
    if query.is_empty() { Err("empty".to_owned()) } else { Ok([Ok(1), Err(2)].into_iter()) }
}

fn main() {}
