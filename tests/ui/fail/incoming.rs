use rpc_core::{Incoming, remote};

struct Row;

#[remote]
async fn borrows(_words: Incoming<&str>) {}

#[remote]
async fn borrows_inside(_words: Incoming<Option<&str>>) {}

#[remote]
async fn does_not_travel(_rows: Incoming<Row>) {}

#[remote]
async fn two(_names: Incoming<String>, _numbers: Incoming<u32>) {}

#[remote(inline)]
fn inline(_numbers: Incoming<u32>) {}

#[remote]
async fn reference(_numbers: &Incoming<u32>) {}

mod other {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Incoming<T>(T);
}

#[remote]
async fn another(_numbers: other::Incoming<u32>) {}

fn main() {}
