use rpc_core::remote;

#[remote]
fn pairs() -> (u32, impl Iterator<Item = u32> + Send) {
    (1, 0..3)
}

fn main() {}
