use rpc_core::{Client, remote};

#[remote]
fn count_words(text: &str) -> usize;

fn call(client: &Client) {
    let _ = count_words(client, "a b a");
}

fn main() {}
