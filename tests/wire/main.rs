//! The protocol byte by byte: the bytes on the wire, and the reaction to invalid bytes.

#![allow(clippy::unused_async)] // The tests need an async function.

mod bad_input;
mod envelopes;
mod golden;
mod optional;
mod plain_peers;

use std::sync::Arc;

use bytes::Bytes;
use rpc_core::{Context, ServerBuilder, remote};
use tests::Gate;

/// Adds two numbers.
#[remote(inline, idempotent)]
pub(crate) fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[remote]
pub(crate) fn echo(data: Bytes) -> Bytes {
    data
}

#[remote(timeout = "2s")]
pub(crate) async fn half(n: i64, digits: Option<u8>) -> Result<i64, String> {
    let _ = digits;
    if n % 2 == 0 { Ok(n / 2) } else { Err(format!("{n} is odd")) }
}

#[remote]
pub(crate) fn crash() {
    panic!("oh");
}

#[remote]
pub(crate) fn hold(#[state] gate: &Gate, #[context] cx: &Context) -> bool {
    let _inside = gate.enter();
    gate.pass(|| cx.is_cancelled())
}

pub(crate) fn server(gate: &Arc<Gate>) -> ServerBuilder {
    tests::server().shared_state(Arc::clone(gate)).workers(1)
}

/// Returns true if `part` occurs in `body`.
pub(crate) fn contains(body: &[u8], part: &str) -> bool {
    body.windows(part.len()).any(|window| window == part.as_bytes())
}
