//! The metrics of a server, which are listed in docs/OPERATIONS.md.

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::{
    server::hooks::{CallEnd, Refusal, RefusedRequest, ServedCall, ServerHook},
    util::gauged::{SERVER_CLIENTS, SERVER_IN_FLIGHT},
};

const CALLS: &str = "rpc_server_calls_total";
const CALL_SECONDS: &str = "rpc_server_call_seconds";
const WAIT_SECONDS: &str = "rpc_server_wait_seconds";
const REFUSED: &str = "rpc_server_refused_total";
const REQUEST_BYTES: &str = "rpc_server_request_bytes_total";
const REPLY_BYTES: &str = "rpc_server_reply_bytes_total";
const RUNNING: &str = "rpc_server_running";
pub(crate) const DROPPED: &str = "rpc_server_dropped_replies_total";

/// The hook that counts the calls of a server.
pub(crate) struct CallMetrics;

impl CallMetrics {
    /// Makes the hook, and describes the metrics.
    pub(crate) fn new() -> Self {
        describe_counter!(
            CALLS,
            "Calls that have got to a worker or the runtime, by function and code"
        );
        describe_histogram!(CALL_SECONDS, Unit::Seconds, "Time for which functions ran");
        describe_histogram!(
            WAIT_SECONDS,
            Unit::Seconds,
            "Time from the arrival of a request to the start of its function"
        );
        describe_counter!(REFUSED, "Requests whose function has not begun, by code");
        describe_counter!(REQUEST_BYTES, Unit::Bytes, "Bytes of the requests of these calls");
        describe_counter!(REPLY_BYTES, Unit::Bytes, "Bytes of replies without an error");
        describe_gauge!(RUNNING, "Functions that run");
        describe_gauge!(SERVER_IN_FLIGHT, "Calls that wait or run, without inline functions");
        describe_gauge!(SERVER_CLIENTS, "Clients of this library that are connected");
        describe_counter!(DROPPED, "Replies whose client had gone, or did not read");
        Self
    }
}

impl ServerHook for CallMetrics {
    fn before(&self, call: &ServedCall<'_>) -> Result<(), Refusal> {
        let function = call.context().function();
        histogram!(WAIT_SECONDS, "function" => function).record(call.waited());
        counter!(REQUEST_BYTES).increment(call.size() as u64);
        gauge!(RUNNING).increment(1.0);
        Ok(())
    }

    fn after(&self, call: &ServedCall<'_>, end: &CallEnd<'_>) {
        let (function, code) = (call.context().function(), end.error_code().unwrap_or("ok"));
        gauge!(RUNNING).decrement(1.0);
        counter!(CALLS, "function" => function, "code" => code).increment(1);
        histogram!(CALL_SECONDS, "function" => function).record(end.took());
        counter!(REPLY_BYTES).increment(end.reply_size().unwrap_or(0) as u64);
    }

    fn refused(&self, request: &RefusedRequest<'_>) {
        // The name of the function may be any text of a peer.
        counter!(REFUSED, "code" => request.error_code()).increment(1);
    }
}
