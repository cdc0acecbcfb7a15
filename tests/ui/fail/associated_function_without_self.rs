use rpc_core::remote;

struct Counter;

impl Counter {
    #[remote]
    fn start(at: u64) -> u64 {
        at
    }
}

fn main() {}
