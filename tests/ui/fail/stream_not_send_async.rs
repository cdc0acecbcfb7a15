use std::rc::Rc;

use futures_util::stream::{self, Stream};
use rpc_core::remote;

#[remote]
async fn numbers() -> impl Stream<Item = u32> {
    let shared = Rc::new(1);
    stream::repeat_with(move || *shared)
}

fn main() {}
