//! Units of gauges, for the feature `metrics`. Without it, they are nothing.

use std::fmt;

/// The calls that a server has admitted, and that have not ended.
pub(crate) const SERVER_IN_FLIGHT: &str = "rpc_server_in_flight";
/// The clients that have sent a hello, and are still connected.
pub(crate) const SERVER_CLIENTS: &str = "rpc_server_clients";
/// The connections of clients.
pub(crate) const CLIENT_LINKS: &str = "rpc_client_links";

/// One unit of a gauge, for as long as this value lives.
pub(crate) struct Gauged {
    /// It is that of the recorder that was there when the unit was added. Another one that is
    /// installed later never had it.
    #[cfg(feature = "metrics")]
    gauge: metrics::Gauge,
}

impl Gauged {
    /// Adds a unit to the gauge of this name.
    #[cfg(feature = "metrics")]
    pub(crate) fn new(name: &'static str) -> Self {
        let gauge = metrics::gauge!(name);
        gauge.increment(1.0);
        Self { gauge }
    }

    #[cfg(not(feature = "metrics"))]
    pub(crate) fn new(_: &'static str) -> Self {
        Self {}
    }
}

#[cfg(feature = "metrics")]
impl Drop for Gauged {
    fn drop(&mut self) {
        self.gauge.decrement(1.0);
    }
}

impl fmt::Debug for Gauged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauged")
    }
}
