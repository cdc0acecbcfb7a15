use rpc_core::remote;

type Checked<T> = Result<T, String>;

#[remote]
fn f() -> Checked<u8> {
    Ok(1)
}

fn main() {}
