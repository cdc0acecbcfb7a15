//! The functions that are served. The attribute changes nothing about them here: each can still be
//! called as the function that it is.

// What is served should look as it would in your program: `#[remote]` is all that it needs.
#![allow(clippy::must_use_candidate)]

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rpc_core::{Context, Server, ServerBuilder, remote};
use serde::{Deserialize, Serialize};

use crate::text::words;

/// A server of all functions below, with the state that they need.
#[must_use]
pub fn server() -> ServerBuilder {
    Server::builder().state(Visits::default())
}

/// Counts how often each word occurs in a text.
///
/// A sync function runs on the server's worker threads, several calls at a time. The text is
/// borrowed from the message that it came in.
#[remote(idempotent)]
pub fn count_words(text: &str) -> HashMap<String, u64> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for word in words(text) {
        *counts.entry(word).or_default() += 1;
    }
    counts.into_iter().map(|(word, count)| (word.to_owned(), count)).collect()
}

/// Gives back the bytes that it is given.
#[remote(idempotent)]
pub fn echo(data: Bytes) -> Bytes {
    data
}

/// Adds two numbers.
///
/// It takes less time than handing it to a worker would, so it runs where the call is decoded.
#[remote(inline, idempotent)]
pub fn add(a: i64, b: i64) -> i64 {
    a.wrapping_add(b)
}

/// Sleeps for some milliseconds.
///
/// An async function occupies no thread while it waits. If its caller no longer waits for it, it is
/// dropped.
#[remote]
pub async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Keeps a worker busy for some milliseconds, and tells for how many it did.
///
/// Nobody can stop a sync function from outside, so one that takes long asks now and then whether
/// its caller still waits.
#[remote]
pub fn spin_ms(#[context] cx: &Context, ms: u64) -> u64 {
    let start = Instant::now();
    let mut spun = 0;
    while spun < ms {
        if cx.is_cancelled() {
            tracing::info!(ms, spun, "stopped early: nobody waits");
            break;
        }
        std::hint::spin_loop();
        spun = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    }
    spun
}

/// Why [`divide`](fn@divide) has no result. It travels to the caller as the value that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DivideError {
    /// The divisor is 0.
    #[error("division by zero")]
    DivisionByZero,
    /// The quotient is 2^63, one more than the largest `i64`.
    #[error("the quotient is too large")]
    Overflow,
}

/// Divides two numbers, rounding towards zero.
///
/// # Errors
/// [`DivideError`] if there is no such quotient.
#[remote(inline, idempotent)]
pub fn divide(a: i64, b: i64) -> Result<i64, DivideError> {
    if b == 0 {
        return Err(DivideError::DivisionByZero);
    }
    a.checked_div(b).ok_or(DivideError::Overflow)
}

/// Panics. The server survives it, and its caller is told.
///
/// # Panics
/// Always.
#[remote]
pub fn crash() {
    panic!("as it was told to");
}

/// How often [`visits`](fn@visits) was called.
#[derive(Debug, Default)]
pub struct Visits(AtomicU64);

/// Counts its calls.
///
/// The state belongs to the server, is shared by all calls, and does not travel.
#[remote(inline)]
pub fn visits(#[state] visits: &Visits) -> u64 {
    visits.0.fetch_add(1, Ordering::Relaxed) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted() {
        assert_eq!(count_words("a b a"), HashMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]));
        assert_eq!(count_words(" \n"), HashMap::new());
    }

    #[test]
    fn quotients_that_do_not_exist_are_errors() {
        assert_eq!(divide(-7, 2), Ok(-3));
        assert_eq!(divide(1, 0), Err(DivideError::DivisionByZero));
        assert_eq!(divide(i64::MIN, -1), Err(DivideError::Overflow));
    }
}
