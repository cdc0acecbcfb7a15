//! Functions that are implemented elsewhere. Unused declarations cause no warning.
#![deny(warnings, missing_docs, unreachable_pub)]
#![forbid(unsafe_code)]

use rpc_core::{Client, RemoteFn, remote};

/// Counts words.
#[remote(idempotent)]
pub fn count_words(text: &str) -> usize;

#[remote]
pub async fn undocumented(data: &[u8]) -> Result<Vec<u8>, String>;

#[remote]
fn private(first: Option<&str>, (a, b): (u8, u8));

fn calls(client: &Client) {
    let _ = count_words::call(client, "text");
}

fn main() {
    let _ = calls;
    assert_eq!(count_words::SIGNATURE.doc, "Counts words.");
    assert_eq!(private::SIGNATURE.params[1].name, "arg1");
}
