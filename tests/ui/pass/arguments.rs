//! Every argument of the attribute.
#![deny(warnings, missing_docs, unreachable_pub)]
#![forbid(unsafe_code)]

use std::time::Duration;

use rpc_core::{Client, Execution, RemoteFn, remote};

mod my {
    pub(crate) use rpc_core as rpc;
}

/// Adds.
///
/// It wraps around.
#[remote(name = "math.add", type = Add, inline, idempotent, timeout = "1500ms", crate = "my::rpc")]
#[must_use]
pub fn add(a: i64, b: i64) -> i64 {
    a.wrapping_add(b)
}

/// A module may have the same name as the function if the struct has another name.
pub mod add {}

#[remote()]
fn plain() {}

#[remote]
async fn later() {}

fn calls(client: &Client) {
    let _ = Add::call(client, 3, add(4, 4));
}

fn main() {
    let _ = calls;
    let signature = Add::SIGNATURE;
    assert_eq!(signature.name, "math.add");
    assert_eq!(signature.doc, "Adds.\n\nIt wraps around.");
    assert_eq!(signature.execution, Execution::Inline);
    assert!(signature.idempotent);
    assert_eq!(signature.timeout, Some(Duration::from_millis(1500)));

    let signature = plain::SIGNATURE;
    assert_eq!(
        (signature.name, signature.doc, signature.execution),
        ("plain", "", Execution::Blocking)
    );
    assert_eq!((signature.idempotent, signature.timeout), (false, None));
    assert_eq!(later::SIGNATURE.execution, Execution::Async);
}
