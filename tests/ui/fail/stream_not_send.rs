use std::rc::Rc;

use rpc_core::remote;

#[remote]
fn numbers() -> impl Iterator<Item = u32> {
    let shared = Rc::new(1);
    std::iter::repeat_with(move || *shared)
}

fn main() {}
