//! The functions of `test-server`, as its clients declare them. Their bodies are in
//! `tests/server/main.rs` alone, so that no test that links this library serves them.

use bytes::Bytes;
use rpc_core::remote;

/// Adds two numbers on the server's I/O thread.
#[remote(idempotent)]
pub fn sum(a: u64, b: u64) -> u64;

/// Doubles a number on a worker. `None` if that is more than 64 bits hold.
#[remote(idempotent)]
pub fn double(n: u64) -> Option<u64>;

/// Gives back what it was given.
#[remote(idempotent)]
pub fn echo(data: Bytes) -> Bytes;

/// Takes its time, and nothing else.
#[remote(idempotent)]
pub async fn sleep_ms(ms: u64);

/// Holds a worker for a while.
#[remote(idempotent)]
pub fn block_ms(ms: u64);

/// Doubles a number, and takes its time.
#[remote(idempotent)]
pub async fn double_later(n: u64, ms: u64) -> u64;

/// Notes in the server's ledger that the call `id` was executed, and then takes its time: to be
/// called once for each id. Every id that is divisible by [`REFUSED`] is noted, and then fails.
#[remote]
pub async fn count(id: u64, ms: u64) -> Result<u64, String>;

/// As [`count()`], on a worker.
#[remote]
pub fn count_on_worker(id: u64, ms: u64) -> Result<u64, String>;

/// See `count`.
pub const REFUSED: u64 = 97;
