use rpc_core::remote;

#[remote(inline)]
fn numbers() -> impl Iterator<Item = u32> + Send {
    0..3
}

fn main() {}
