//! The server of the reliability tests, as a process of its own that can be killed, stopped and
//! started again.
//!
//! ```text
//! test-server ENDPOINT [--ledger FILE] [--workers N] [--max-in-flight N] [--max-waiting N] [--max-message-size N]
//! ```
//!
//! The process writes `listening on ENDPOINT` to stdout, and nothing else. On SIGTERM it drains and
//! exits with 0. It also ends when its stdin is closed, so that it never outlives the test that
//! started it.

#![allow(clippy::unnecessary_wraps, clippy::unused_async)] // `served.rs` declares these signatures.

use std::{
    error::Error,
    io::Read,
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use rpc_core::{Incoming, ServerBuilder, remote};
use tests::{ledger::Pen, served::REFUSED};
use tokio::signal::unix::{SignalKind, signal};

#[remote(inline, idempotent)]
fn sum(a: u64, b: u64) -> u64 {
    a.wrapping_add(b)
}

#[remote(idempotent)]
fn double(n: u64) -> Option<u64> {
    n.checked_mul(2)
}

#[remote(idempotent)]
fn echo(data: Bytes) -> Bytes {
    data
}

#[remote(idempotent)]
async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[remote(idempotent)]
fn block_ms(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

#[remote(idempotent)]
async fn double_later(n: u64, ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    2 * n
}

#[remote]
async fn count(#[state] pen: &Pen, id: u64, ms: u64) -> Result<u64, String> {
    pen.note(id).map_err(|error| error.to_string())?;
    tokio::time::sleep(Duration::from_millis(ms)).await;
    unless_refused(id)
}

#[remote]
fn count_on_worker(#[state] pen: &Pen, id: u64, ms: u64) -> Result<u64, String> {
    pen.note(id).map_err(|error| error.to_string())?;
    thread::sleep(Duration::from_millis(ms));
    unless_refused(id)
}

#[remote(idempotent)]
async fn numbers(first: u64, count: u64) -> impl Stream<Item = u64> + Send {
    stream::iter(first..first + count).then(async |number| {
        pause(number).await;
        number
    })
}

async fn pause(number: u64) {
    if number.is_multiple_of(50) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The number of items that `items` has made.
#[derive(Debug, Default)]
struct Made {
    items: AtomicU64,
    open: AtomicU64,
}

/// An open stream of `items`.
struct Open(Arc<Made>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[remote(idempotent)]
fn items(#[state] made: Arc<Made>, size: usize, count: u64) -> impl Iterator<Item = Bytes> + Send {
    made.open.fetch_add(1, Ordering::SeqCst);
    let (item, open) = (Bytes::from(vec![7; size]), Open(made));
    (0..count).map(move |_| {
        open.0.items.fetch_add(1, Ordering::Relaxed);
        item.clone()
    })
}

#[remote(idempotent)]
fn made(#[state] made: &Made) -> (u64, u64) {
    (made.items.load(Ordering::SeqCst), made.open.load(Ordering::SeqCst))
}

#[remote]
async fn take(first: u64, mut numbers: Incoming<u64>) -> Result<u64, String> {
    let mut next = first;
    while let Some(number) = numbers.next().await {
        let number = number.map_err(|error| error.to_string())?;
        if number != next {
            return Err(format!("{number} came instead of {next}"));
        }
        pause(number).await;
        next += 1;
    }
    Ok(next - first)
}

#[remote]
fn take_bytes(items: Incoming<Bytes>) -> Result<u64, String> {
    let len = |item: Bytes| u64::try_from(item.len()).unwrap_or(0);
    items.wait().map(|item| item.map(len).map_err(|error| error.to_string())).sum()
}

#[remote]
fn die() {
    process::abort();
}

fn unless_refused(id: u64) -> Result<u64, String> {
    if id.is_multiple_of(REFUSED) { Err(format!("{id} is refused")) } else { Ok(id) }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    thread::spawn(|| {
        // Nobody ever writes to stdin: the read returns when the test process has ended.
        let _ = std::io::stdin().read(&mut [0]);
        process::exit(1);
    });
    // From here on SIGTERM no longer kills the process. The signal may arrive as soon as the test
    // reads the line "listening on".
    let mut terminate = signal(SignalKind::terminate())?;
    let (builder, endpoint) = options(std::env::args().skip(1))?;
    let server = builder.bind(endpoint).await?;
    println!("listening on {}", server.endpoint());
    server.serve_until(terminate.recv()).await?;
    Ok(())
}

fn options(
    mut arguments: impl Iterator<Item = String>,
) -> Result<(ServerBuilder, String), Box<dyn Error>> {
    let endpoint = arguments.next().ok_or("the endpoint is missing")?;
    // Without a ledger, the noted ids are discarded.
    let (mut builder, mut ledger) = (tests::server().workers(2), "/dev/null".to_owned());
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{option} has no value"))?;
        builder = match option.as_str() {
            "--ledger" => {
                ledger = value;
                builder
            }
            "--workers" => builder.workers(value.parse()?),
            "--max-in-flight" => builder.max_in_flight(value.parse()?),
            "--max-waiting" => builder.max_waiting(value.parse()?),
            "--max-message-size" => builder.max_message_size(value.parse()?),
            _ => return Err(format!("there is no option {option}").into()),
        };
    }
    Ok((builder.state(Pen::open(&ledger)?).state(Made::default()), endpoint))
}
