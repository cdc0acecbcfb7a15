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

#![allow(clippy::unnecessary_wraps)] // `served.rs` declares these signatures.

use std::{error::Error, io::Read, process, thread, time::Duration};

use bytes::Bytes;
use rpc_core::{ServerBuilder, remote};
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
    Ok((builder.state(Pen::open(&ledger)?), endpoint))
}
