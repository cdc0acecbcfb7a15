//! What a client can tell of its servers, for whoever watches: a progress bar, a health check, a
//! log.

use std::{fmt, sync::Arc};

/// How a client is doing at one moment. See [`Client::status`](crate::Client::status).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientStatus {
    /// Each endpoint, in the order in which they were given.
    pub endpoints: Vec<EndpointStatus>,
    /// How many calls are in flight, whose outcome has not been taken.
    pub calls: usize,
    /// How many bytes count for them. See
    /// [`max_bytes_in_flight`](crate::ClientBuilder::max_bytes_in_flight).
    pub bytes: usize,
    /// How many calls wait for room to be in flight.
    pub waiting: usize,
    /// How often a call was made again, since the client began.
    pub retries: u64,
}

/// How a client is doing with one of its endpoints.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// As it was given.
    pub endpoint: Arc<str>,
    /// Whether calls go there.
    pub state: EndpointState,
    /// How many calls wait for replies from there.
    pub calls: usize,
}

/// Whether calls go to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointState {
    /// They do.
    Connected,
    /// It asked for a pause, because it is overloaded: only if there is no other.
    Overloaded,
    /// It owes an answer to a ping: only if there is no other.
    Silent,
    /// There is no connection, and one is being made.
    Connecting {
        /// Why the last one failed or ended; `None` during the first attempt.
        reason: Option<Arc<str>>,
    },
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("connected"),
            Self::Overloaded => f.write_str("overloaded"),
            Self::Silent => f.write_str("silent"),
            Self::Connecting { reason: Some(reason) } => write!(f, "connecting: {reason}"),
            Self::Connecting { reason: None } => f.write_str("connecting"),
        }
    }
}
