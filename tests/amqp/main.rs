//! Tests of calls through a RabbitMQ broker, with real brokers and real server processes:
//!
//! ```sh
//! apt-get install rabbitmq-server
//! cargo test -p tests --features amqp --test amqp -- --ignored
//! ```
//!
//! Each test that kills a broker has one of its own. The others share one.

mod addresses;
mod alarm;
mod chaos;
mod jobs;
mod limits;
mod memory;
mod messages;
mod peers;
mod restarts;
mod services;
mod settling;
mod tls;

use std::sync::LazyLock;

use tests::{process::ServerProcess, rabbitmq::RabbitMq};
use tokio::sync::Mutex;

/// A function, so that a server of this process has one.
#[rpc_core::remote]
fn nothing() {}

/// The broker of the tests that leave it alone.
static BROKER: LazyLock<RabbitMq> = LazyLock::new(|| RabbitMq::start(""));

/// The lock that each test with a broker of its own holds, so that few brokers run at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Starts the server of these tests, `tests/server/main.rs`.
fn server(endpoint: &str, arguments: &[&str]) -> ServerProcess {
    ServerProcess::start_at(env!("CARGO_BIN_EXE_test-server"), endpoint, arguments)
}

/// Waits until a condition holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    tests::soon(what, async {
        while !holds().await {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}
