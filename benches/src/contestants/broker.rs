//! The RabbitMQ broker that some contestants use.

use std::{env, process};

/// Returns the endpoint of the broker that `BENCH_BROKER` names, if it is set.
pub(crate) fn broker() -> Option<String> {
    env::var("BENCH_BROKER").ok().filter(|endpoint| !endpoint.is_empty())
}

/// Returns the endpoint of a queue that this process alone uses.
pub(crate) fn endpoint(broker: &str) -> String {
    format!("{broker}?queue=bench-{}", process::id())
}
