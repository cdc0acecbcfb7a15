//! The functions of `test-server`, as its clients declare them. The bodies are only in
//! `tests/server/main.rs`, so that a test that links this library does not serve them.

use bytes::Bytes;
use rpc_core::{Incoming, remote};

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

/// Returns `count` numbers, with a pause of a millisecond after each 50.
#[remote(idempotent)]
pub async fn numbers(first: u64, count: u64) -> impl Stream<Item = u64>;

/// Returns `count` items of `size` bytes each, from a worker.
#[remote(idempotent)]
pub fn items(size: usize, count: u64) -> impl Iterator<Item = Bytes>;

/// The number of items that `items` has made, and of its streams that are open.
#[remote(idempotent)]
pub fn made() -> (u64, u64);

/// Takes numbers that follow each other, and returns how many there were. Fails at one that does
/// not follow. Pauses as `numbers` does.
#[remote]
pub async fn take(first: u64, numbers: Incoming<u64>) -> Result<u64, String>;

/// Returns how many bytes the items have together.
#[remote]
pub fn take_bytes(items: Incoming<Bytes>) -> Result<u64, String>;

/// Ends the server process, as a fault in a function may.
#[remote]
pub fn die();

/// The divisor of the ids that `count` refuses.
pub const REFUSED: u64 = 97;
