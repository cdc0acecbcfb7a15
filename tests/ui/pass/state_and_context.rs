//! Parameters that are not sent over the wire.
#![deny(warnings, missing_docs, unreachable_pub)]
#![forbid(unsafe_code)]

use std::sync::{self, Arc};

use rpc_core::{Client, Context, RemoteFn, remote};

struct Cache<T>(T);

#[remote]
fn only_state(#[state] cache: &Cache<u8>) -> u8 {
    cache.0
}

#[remote]
fn in_between(text: &str, #[state] cache: Arc<Cache<u8>>, number: u8, #[context] cx: &Context) -> usize {
    text.len() + usize::from(number + cache.0) + cx.peer().len()
}

#[remote]
async fn held_over_an_await(
    #[state] cache: &Cache<u8>,
    text: &str,
    #[state] shared: sync::Arc<String>,
    #[context] cx: &rpc_core::Context,
) -> usize {
    tokio::task::yield_now().await;
    usize::from(cache.0) + text.len() + shared.len() + cx.function().len()
}

#[remote]
fn owned_context(#[context] cx: Context, #[state] _cache: &Cache<u8>) -> bool {
    cx.is_cancelled()
}

fn calls(client: &Client) {
    let _ = only_state::call(client);
    let _ = in_between::call(client, "text", 1);
    let _ = in_between::map(client, [("text", 1)]);
    let _ = held_over_an_await::map(client, ["text"]);
    let _ = owned_context::notify(client);
}

fn main() {
    let _ = calls;
    let names: Vec<_> = in_between::SIGNATURE
        .params
        .iter()
        .map(|param| param.name)
        .collect();
    assert_eq!(names, ["text", "number"]);
}
