//! The state of a client, for whoever watches: a progress bar, a health check, a log.

use std::{fmt, sync::Arc};

/// The state of a client at one moment. See [`Client::status`](crate::Client::status).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientStatus {
    /// The endpoints, in the order in which they were given.
    pub endpoints: Vec<EndpointStatus>,
    /// The number of calls in flight, whose outcome has not been taken.
    pub calls: usize,
    /// The bytes that count for these calls. See
    /// [`max_bytes_in_flight`](crate::ClientBuilder::max_bytes_in_flight).
    pub bytes: usize,
    /// The number of calls that wait for capacity.
    pub waiting: usize,
    /// The number of retries since the client began.
    pub retries: u64,
}

/// The state of one endpoint of a client.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// The endpoint as it was given.
    pub endpoint: Arc<str>,
    /// The state of the connection.
    pub state: Connectivity,
    /// The number of calls that wait for replies from there.
    pub calls: usize,
}

/// The state of the connection to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connectivity {
    /// Calls go there.
    Connected,
    /// The server is overloaded and asked for a pause: calls go there only if there is no alternative.
    Overloaded,
    /// The server owes an answer to a ping: calls go there only if there is no alternative.
    Unresponsive,
    /// There is no connection, and one is being made.
    Connecting {
        /// The reason why the last one failed or ended. `None` during the first attempt.
        reason: Option<Arc<str>>,
    },
}

impl fmt::Display for Connectivity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("connected"),
            Self::Overloaded => f.write_str("overloaded"),
            Self::Unresponsive => f.write_str("unresponsive"),
            Self::Connecting { reason: Some(reason) } => write!(f, "connecting: {reason}"),
            Self::Connecting { reason: None } => f.write_str("connecting"),
        }
    }
}
