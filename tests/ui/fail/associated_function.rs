use rpc_core::remote;

struct Counter(u64);

impl Counter {
    #[remote]
    fn start(at: u64) -> Self {
        Self(at)
    }
}

fn main() {}
