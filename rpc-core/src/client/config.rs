//! The limits and timeouts of a client, with their defaults.

use std::time::Duration;

use crate::{
    client::{
        balancing::Balancing,
        calls::capacity::{Capacity, WhenFull},
        hooks::Hooks,
    },
    engine::Engine,
    error::RpcError,
    function::Signature,
    protocol::{DEFAULT_MAX_MESSAGE_SIZE, metadata::Metadata},
    transport::TransportConfig,
};

#[cfg(feature = "curve")]
use crate::{
    error::{ErrorKind, Ran},
    transport::Curve,
};

/// The shortest `keepalive_timeout`.
const MIN_KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(20);

/// The limits and timeouts of a client. The setters of [`ClientBuilder`](crate::ClientBuilder)
/// document each of them, with the reason for its default.
#[derive(Debug, Clone)]
pub(crate) struct ClientConfig {
    pub(crate) timeout: Duration,
    pub(crate) stream_window: u64,
    pub(crate) stream_idle_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) fail_fast: bool,
    pub(crate) max_in_flight: usize,
    pub(crate) max_bytes_in_flight: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) max_message_size: usize,
    pub(crate) engine: Engine,
    pub(crate) balancing: Balancing,
    pub(crate) use_current_runtime: bool,
    /// The key of the client, and those of the servers that it trusts.
    #[cfg(feature = "curve")]
    pub(crate) curve: Option<Curve>,
    /// The metadata of all calls.
    pub(crate) metadata: Metadata,
    pub(crate) hooks: Hooks,
    /// The functions that every server must have as they are known here.
    pub(crate) expected: Vec<&'static Signature>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            stream_window: 1024 * 1024,
            stream_idle_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            keepalive_timeout: Duration::from_secs(5),
            retries: u32::MAX,
            fail_fast: false,
            max_in_flight: 65_536,
            max_bytes_in_flight: 256 * 1024 * 1024,
            when_full: WhenFull::Wait,
            max_message_size: DEFAULT_MAX_MESSAGE_SIZE,
            engine: Engine::default(),
            balancing: Balancing::default(),
            use_current_runtime: false,
            #[cfg(feature = "curve")]
            curve: None,
            metadata: Metadata::default(),
            hooks: Hooks::default(),
            expected: Vec::new(),
        }
    }
}

impl ClientConfig {
    pub(crate) fn capacity(&self) -> Capacity {
        Capacity::new(self.max_in_flight, self.max_bytes_in_flight, self.when_full)
    }

    pub(crate) fn transport(&self) -> TransportConfig {
        TransportConfig {
            engine: self.engine,
            max_message_size: self.max_message_size,
            #[cfg(feature = "curve")]
            curve: self.curve.clone(),
        }
    }

    /// Fails if the connections would not be protected as they seem to.
    #[cfg_attr(not(feature = "curve"), allow(clippy::unused_self, clippy::unnecessary_wraps))]
    pub(crate) fn check(&self) -> Result<(), RpcError> {
        #[cfg(feature = "curve")]
        if let Some(Curve::Client { servers, .. }) = &self.curve {
            let message = if self.engine != Engine::Omq {
                "this engine has no CURVE: set `.engine(Engine::Omq)`"
            } else if servers.is_empty() {
                "no key of a server was given: `.curve([server], own)`"
            } else {
                return Ok(());
            };
            return Err(RpcError::new(ErrorKind::InvalidEndpoint, Ran::No, message));
        }
        Ok(())
    }

    /// Returns the longest time for which a server that owes replies may send nothing.
    pub(crate) fn keepalive_timeout(&self) -> Duration {
        self.keepalive_timeout.max(MIN_KEEPALIVE_TIMEOUT)
    }
}
