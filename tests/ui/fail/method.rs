use rpc_core::remote;

struct Counter;

impl Counter {
    #[remote]
    fn f(&self, _: u8) {}
}

fn main() {}
