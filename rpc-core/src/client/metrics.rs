//! The metrics of a client, which are listed in docs/OPERATIONS.md.

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::{
    client::hooks::{ClientHook, EndedCall, StartingCall},
    util::gauged::CLIENT_LINKS,
};

const CALLS: &str = "rpc_client_calls_total";
const CALL_SECONDS: &str = "rpc_client_call_seconds";
const RETRIES: &str = "rpc_client_retries_total";
const REPLY_BYTES: &str = "rpc_client_reply_bytes_total";
const IN_FLIGHT: &str = "rpc_client_in_flight";

/// The hook that counts the calls of a client.
pub(crate) struct CallMetrics;

impl CallMetrics {
    /// Makes the hook, and describes the metrics.
    pub(crate) fn new() -> Self {
        describe_counter!(CALLS, "Calls and notifications that have ended, by function and code");
        describe_histogram!(
            CALL_SECONDS,
            Unit::Seconds,
            "Time from the start of a call to its end"
        );
        describe_counter!(RETRIES, "Tries that were made after a failure");
        describe_counter!(REPLY_BYTES, Unit::Bytes, "Bytes of replies");
        describe_gauge!(IN_FLIGHT, "Calls that have begun and not ended");
        describe_gauge!(CLIENT_LINKS, "Connections to servers");
        Self
    }
}

impl ClientHook for CallMetrics {
    fn before(&self, _: &mut StartingCall<'_>) {
        gauge!(IN_FLIGHT).increment(1.0);
    }

    fn after(&self, call: &EndedCall<'_>) {
        let function = call.function().to_owned();
        gauge!(IN_FLIGHT).decrement(1.0);
        histogram!(CALL_SECONDS, "function" => function.clone()).record(call.took());
        counter!(CALLS, "function" => function, "code" => call.label()).increment(1);
        counter!(RETRIES).increment(call.retries().into());
        counter!(REPLY_BYTES).increment(call.reply_size().unwrap_or(0) as u64);
    }
}
