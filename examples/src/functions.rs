//! The remote functions of the examples. The attribute `#[remote]` does not change a function: it
//! can still be called locally, as any other function.

// The functions look as they would in your program: they need no attribute besides `#[remote]`.
#![allow(clippy::must_use_candidate)]

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rpc_core::{Context, Incoming, Server, ServerBuilder, remote};
use serde::{Deserialize, Serialize};

use crate::text::words;

/// Returns a builder for a server of all functions below, with the state that they need.
#[must_use]
pub fn server() -> ServerBuilder {
    Server::builder().state(Visits::default())
}

/// Counts how often each word occurs in a text.
///
/// A sync function runs on the server's worker pool, which runs several calls at the same time. The
/// argument `text` borrows from the received message, so it is not copied.
#[remote(idempotent)]
pub fn count_words(text: &str) -> HashMap<String, u64> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for word in words(text) {
        *counts.entry(word).or_default() += 1;
    }
    counts.into_iter().map(|(word, count)| (word.to_owned(), count)).collect()
}

/// Counts the words of texts that come one by one.
///
/// The counts come back as they merge: those of 64 texts at a time, which the caller adds up.
#[remote]
pub fn count_stream(
    texts: Incoming<String>,
) -> impl Iterator<Item = Result<HashMap<String, u64>, String>> + Send {
    let mut texts = texts.wait();
    std::iter::from_fn(move || {
        let mut merged = None;
        for text in texts.by_ref().take(64) {
            let text = match text {
                Ok(text) => text,
                Err(error) => return Some(Err(error.to_string())),
            };
            let merged: &mut HashMap<_, _> = merged.get_or_insert_default();
            for (word, count) in count_words(&text) {
                *merged.entry(word).or_default() += count;
            }
        }
        merged.map(Ok)
    })
}

/// Returns its argument.
#[remote(idempotent)]
pub fn echo(data: Bytes) -> Bytes {
    data
}

/// Adds two numbers.
///
/// The addition takes less time than handing the call to a worker. The function is therefore
/// `inline`: it runs on the thread that decodes the call.
#[remote(inline, idempotent)]
pub fn add(a: i64, b: i64) -> i64 {
    a.wrapping_add(b)
}

/// Finds the prime numbers below a limit, one by one.
///
/// The caller gets each as soon as it is found. If it takes none, the function waits, and holds no
/// worker.
#[remote(idempotent)]
pub fn primes(below: u64) -> impl Iterator<Item = u64> + Send {
    (2..below).filter(|n| (2..=n.isqrt()).all(|d| !n.is_multiple_of(d)))
}

/// Sleeps for some milliseconds.
///
/// An async function occupies no thread while it waits. The server drops it when its caller stops
/// waiting.
#[remote]
pub async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Keeps a worker busy for some milliseconds, and returns for how many it did.
///
/// A sync function cannot be stopped from outside. One that takes long should check from time to
/// time that its caller still waits.
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

/// The reason why [`divide`](fn@divide) has no result. The caller receives it as a value of this
/// type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DivideError {
    /// The divisor is 0.
    #[error("division by zero")]
    DivisionByZero,
    /// The quotient is 2^63, one more than the largest `i64`.
    #[error("the quotient is too large")]
    Overflow,
}

/// Divides two numbers, rounding toward zero.
///
/// # Errors
/// Returns a [`DivideError`] if there is no such quotient.
#[remote(inline, idempotent)]
pub fn divide(a: i64, b: i64) -> Result<i64, DivideError> {
    if b == 0 {
        return Err(DivideError::DivisionByZero);
    }
    a.checked_div(b).ok_or(DivideError::Overflow)
}

/// Panics. The server survives the panic, and the caller receives an error.
///
/// # Panics
/// Always.
#[remote]
pub fn crash() {
    panic!("as it was told to");
}

/// The number of calls of [`visits`](fn@visits) so far.
#[derive(Debug, Default)]
pub struct Visits(AtomicU64);

/// Counts its own calls, and returns the count.
///
/// A `#[state]` parameter belongs to the server. All calls share it, and it is not sent in a
/// message.
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
    fn divide_fails_without_a_quotient() {
        assert_eq!(divide(-7, 2), Ok(-3));
        assert_eq!(divide(1, 0), Err(DivideError::DivisionByZero));
        assert_eq!(divide(i64::MIN, -1), Err(DivideError::Overflow));
    }
}
