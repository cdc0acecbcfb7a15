//! Tests of behavior under failure, with real processes and real sockets. Each test prints its
//! figures:
//!
//! ```sh
//! cargo test --release -p tests --test reliability -- --nocapture --test-threads=1
//! ```
//!
//! The ignored tests take long. docs/RELIABILITY.md has the results and the commands that run them.

mod chaos;
mod failover;
mod fleet;
mod hostile;
mod load;
mod memory;
mod overload;
mod rolling;
mod streams;

use tests::process::ServerProcess;
use tokio::sync::Mutex;

/// The lock that each measuring test holds, so that no other test disturbs it.
pub(crate) static ALONE: Mutex<()> = Mutex::const_new(());

/// Starts the server of these tests, `tests/server/main.rs`.
pub(crate) fn server(arguments: &[&str]) -> ServerProcess {
    ServerProcess::start(env!("CARGO_BIN_EXE_test-server"), arguments)
}

/// Returns a number that the environment may override, so that one test can run for seconds or for
/// hours.
pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name} is to be a number, and is `{text}`"))
}
