use rpc_core::remote;

#[remote]
fn f() -> std::io::Result<u8> {
    Ok(1)
}

fn main() {}
