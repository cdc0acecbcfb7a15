//! What happens when things go wrong, with real processes and real sockets. Each test prints its
//! figures:
//!
//! ```sh
//! cargo test --release -p tests --test reliability -- --nocapture --test-threads=1
//! ```
//!
//! Those that are ignored are long; docs/RELIABILITY.md tells what was found and how to run them.

mod chaos;
mod failover;
mod fleet;
mod hostile;
mod load;
mod memory;
mod overload;
mod rolling;

use tests::process::ServerProcess;
use tokio::sync::Mutex;

/// Held by each test that measures, so that none disturbs another.
pub(crate) static ALONE: Mutex<()> = Mutex::const_new(());

/// Starts the server of these tests, see `tests/server/main.rs`.
pub(crate) fn server(arguments: &[&str]) -> ServerProcess {
    ServerProcess::start(env!("CARGO_BIN_EXE_test-server"), arguments)
}

/// A number that the environment may set, so that one test serves for seconds and for hours.
pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name} is to be a number, and is `{text}`"))
}
