//! The protocol byte by byte: the bytes on the wire, and the reaction to invalid bytes.

#![allow(clippy::unused_async)] // The tests need an async function.

mod bad_input;
mod envelopes;
mod golden;
mod optional;
mod plain_peers;

use std::sync::Arc;

use bytes::Bytes;
use rpc_core::{Context, Incoming, ServerBuilder, remote};
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
pub(crate) fn numbers(below: u8) -> impl Iterator<Item = Result<u8, String>> + Send {
    (0..below).map(move |n| if below == 2 && n == 1 { Err("too small".to_owned()) } else { Ok(n) })
}

#[remote]
pub(crate) async fn total(mut numbers: Incoming<u8>) -> Result<u64, String> {
    let mut total = 0;
    while let Some(number) = numbers.next().await {
        total += u64::from(number.map_err(|error| error.to_string())?);
    }
    Ok(total)
}

#[remote]
pub(crate) fn total_sync(numbers: Incoming<u8>) -> u64 {
    numbers.wait().map_while(Result::ok).map(u64::from).sum()
}

/// Takes nothing before its call ends.
#[remote]
pub(crate) async fn later(numbers: Incoming<u8>) {
    let _kept = numbers;
    std::future::pending::<()>().await;
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
