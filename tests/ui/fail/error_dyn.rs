use rpc_core::remote;

#[remote]
fn f() -> Result<(), Box<dyn std::error::Error>> {
    Ok(())
}

fn main() {}
