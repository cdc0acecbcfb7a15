use std::rc::Rc;

use rpc_core::remote;

#[remote]
async fn f(text: &str) -> usize {
    let shared = Rc::new(text.len());
    std::future::ready(()).await;
    *shared
}

fn main() {}
