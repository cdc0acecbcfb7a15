//! The functions of `test-server`, as its clients declare them. The bodies are only in
//! `tests/server/main.rs`, so that a test that links this library does not serve them.

use bytes::Bytes;
use rpc_core::remote;

/// Adds two numbers on the server's I/O thread.
#[remote(idempotent)]
pub fn sum(a: u64, b: u64) -> u64;

/// Doubles a number on a worker. Returns `None` if the result exceeds 64 bits.
#[remote(idempotent)]
pub fn double(n: u64) -> Option<u64>;

/// Returns its argument.
#[remote(idempotent)]
pub fn echo(data: Bytes) -> Bytes;

/// Sleeps for `ms` milliseconds.
#[remote(idempotent)]
pub async fn sleep_ms(ms: u64);

/// Blocks a worker for `ms` milliseconds.
#[remote(idempotent)]
pub fn block_ms(ms: u64);

/// Doubles a number after `ms` milliseconds.
#[remote(idempotent)]
pub async fn double_later(n: u64, ms: u64) -> u64;

/// Notes in the server's ledger that the call `id` was executed, and then sleeps for `ms`
/// milliseconds. Each id is to be used for one call only. A call whose id is divisible by
/// [`REFUSED`] is noted, and then fails.
#[remote]
pub async fn count(id: u64, ms: u64) -> Result<u64, String>;

/// Works like `count`, on a worker.
#[remote]
pub fn count_on_worker(id: u64, ms: u64) -> Result<u64, String>;

/// Ends the server process, as a fault in a function may.
#[remote]
pub fn die();

/// The divisor of the ids that `count` refuses.
pub const REFUSED: u64 = 97;
