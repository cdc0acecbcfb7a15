//! The state of a client, for health checks, logs and progress bars.

use std::{fmt, sync::Arc};

/// The state of a client at one moment. See [`Client::status`](crate::Client::status).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ClientStatus {
    /// The endpoints, in the order in which they were given or found.
    pub endpoints: Vec<EndpointStatus>,
    /// The sources of endpoints, in the order in which they were given.
    pub sources: Vec<SourceStatus>,
    /// The number of calls in flight. A call that has ended counts until its caller has taken the
    /// outcome.
    pub calls: usize,
    /// The number of bytes in flight. See
    /// [`max_bytes_in_flight`](crate::ClientBuilder::max_bytes_in_flight).
    pub bytes: usize,
    /// The number of calls that wait in the client: because its limits for calls or bytes in flight
    /// are reached (see [`when_full`](crate::ClientBuilder::when_full)), because its servers have as
    /// many of its calls as they take, or because there is no connection.
    pub waiting: usize,
    /// The number of retries since the client was made.
    pub retries: u64,
}

/// The state of a source of endpoints: a [`Discovery`](crate::Discovery), or a text such as
/// `file:///path` or `dns://name:port`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SourceStatus {
    /// The name of the source.
    pub source: Arc<str>,
    /// True if the source has answered at least once, be it with an error.
    pub has_answered: bool,
    /// The number of endpoints that the client has from the source.
    pub endpoints: usize,
    /// The reason why the last answer was an error, or a list that was not used as it is.
    pub failure: Option<Arc<str>>,
}

/// The state of one endpoint of a client.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// The endpoint, as it was given to the client.
    pub endpoint: Arc<str>,
    /// The state of the connection to the endpoint.
    pub state: Connectivity,
    /// The number of calls that were sent to the endpoint and wait for a reply.
    pub calls: usize,
    /// The number of calls that the server takes from this client at a time. It changes with the
    /// number of clients that keep the server busy. `None` if there is no connection, or if the
    /// server does not state it.
    pub window: Option<usize>,
}

/// The state of the connection to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connectivity {
    /// The server is connected, and takes calls.
    Connected,
    /// The server is overloaded and asked for a pause. It gets calls only if there is no other
    /// server.
    Overloaded,
    /// The server owes the answer to a ping. It gets calls only if there is no other server.
    Unresponsive,
    /// The broker takes no messages for now. Calls wait for it, unless another endpoint takes them.
    Blocked {
        /// The reason that the broker gives, such as a lack of memory.
        reason: Arc<str>,
    },
    /// There is no connection that takes calls, and the client is connecting.
    Connecting {
        /// The reason why the last connection was lost, or the last attempt has failed. `None`
        /// during the first attempt.
        reason: Option<Arc<str>>,
    },
}

impl fmt::Display for Connectivity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("connected"),
            Self::Overloaded => f.write_str("overloaded"),
            Self::Unresponsive => f.write_str("unresponsive"),
            Self::Blocked { reason } => write!(f, "blocked: {reason}"),
            Self::Connecting { reason: Some(reason) } => write!(f, "connecting: {reason}"),
            Self::Connecting { reason: None } => f.write_str("connecting"),
        }
    }
}
