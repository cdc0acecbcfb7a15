#![deny(unused_must_use)]

use rpc_core::{Client, remote};

#[remote]
fn f() {}

fn calls(client: &Client) {
    f::call(client);
}

fn main() {}
