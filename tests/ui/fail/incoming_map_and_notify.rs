use rpc_core::{Client, Incoming, remote};

#[remote]
async fn sum(_numbers: Incoming<u32>) {}

fn use_it(client: &Client) {
    sum::map(client, [1, 2]);
    sum::notify(client, futures_util::stream::empty());
    sum::call(client, vec![1, 2]);
    sum::call(client, futures_util::stream::iter(["a"]));
}

fn main() {}
