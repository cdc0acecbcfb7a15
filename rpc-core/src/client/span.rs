//! The span `rpc.client` of a call.

use tracing::{Span, field::Empty};

/// Makes the span of a call. The names are those of the
/// [conventions of OpenTelemetry](https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/).
pub(super) fn of_call(function: &str) -> Span {
    tracing::info_span!(
        "rpc.client",
        "otel.kind" = "client",
        "otel.status_code" = Empty,
        "rpc.system" = "rpc-core",
        "rpc.method" = function,
        "rpc.retries" = Empty,
        "server.address" = Empty,
        "server.port" = Empty,
        "error.type" = Empty,
    )
}

/// Splits an endpoint into the host, or the path, and the port, if there is one. Several endpoints
/// are no address.
pub(super) fn address_and_port(endpoint: &str) -> (&str, Option<u16>) {
    if endpoint.contains(", ") {
        return ("", None);
    }
    let address = endpoint.split_once("://").map_or(endpoint, |(_, address)| address);
    match address.rsplit_once(':').map(|(host, port)| (host, port.parse().ok())) {
        Some((host, Some(port))) => (host, Some(port)),
        _ => (address, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_split() {
        for (endpoint, expected) in [
            ("tcp://example.com:5555", ("example.com", Some(5_555))),
            ("tcp://[::1]:80", ("[::1]", Some(80))),
            ("ipc:///run/app.sock", ("/run/app.sock", None)),
            ("inproc://name", ("name", None)),
            ("", ("", None)),
            ("tcp://127.0.0.1:1, tcp://127.0.0.1:2", ("", None)),
        ] {
            assert_eq!(address_and_port(endpoint), expected);
        }
    }
}
