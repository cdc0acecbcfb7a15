//! The limits and timeouts of a server, with their defaults.

use std::{num::NonZero, thread, time::Duration};

use crate::{
    engine::Engine,
    protocol::DEFAULT_MAX_MESSAGE_SIZE,
    server::{
        error::ServeError, gate::Gate, hooks::Hooks, reply_cache::CacheLimits,
        service::ServiceLimits, workers::PoolSize,
    },
    transport::TransportConfig,
    util::fair_share::reserve_of,
};

#[cfg(feature = "curve")]
use crate::{keys::SecretKey, transport::Curve};

/// The number up to which workers are added while they block, unless there are more cores.
const MAX_WORKERS: usize = 64;

/// The limits and timeouts of a server. The setters of [`ServerBuilder`](crate::ServerBuilder)
/// document each field, with the reason for its default.
#[derive(Debug, Clone)]
pub(crate) struct ServerConfig {
    /// The secret key of the server.
    #[cfg(feature = "curve")]
    pub(crate) curve: Option<SecretKey>,
    pub(crate) gate: Gate,
    pub(crate) hooks: Hooks,
    /// `None` stands for one for each core, and more while they block.
    pub(crate) workers: Option<usize>,
    pub(crate) max_in_flight: usize,
    pub(crate) max_bytes_in_flight: usize,
    /// `None` stands for as many as may be in flight.
    pub(crate) max_waiting: Option<usize>,
    pub(crate) max_message_size: usize,
    pub(crate) max_unread_bytes: usize,
    pub(crate) engine: Engine,
    pub(crate) ipc_mode: u32,
    pub(crate) remember_replies_for: Duration,
    pub(crate) max_remembered_replies: usize,
    pub(crate) max_remembered_bytes: usize,
    pub(crate) drain_timeout: Duration,
    pub(crate) stream_window: u64,
    pub(crate) stream_idle_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            #[cfg(feature = "curve")]
            curve: None,
            gate: Gate::default(),
            hooks: Hooks::default(),
            workers: None,
            max_in_flight: 16_384,
            max_bytes_in_flight: 256 * 1024 * 1024,
            max_waiting: None,
            max_message_size: DEFAULT_MAX_MESSAGE_SIZE,
            max_unread_bytes: 256 * 1024 * 1024,
            engine: Engine::default(),
            ipc_mode: 0o600,
            remember_replies_for: Duration::from_secs(600),
            max_remembered_replies: 16_384,
            max_remembered_bytes: 64 * 1024 * 1024,
            drain_timeout: Duration::from_secs(8),
            stream_window: 256 * 1024,
            stream_idle_timeout: Duration::from_secs(30),
        }
    }
}

impl ServerConfig {
    /// Returns the number of worker threads.
    pub(crate) fn pool_size(&self) -> PoolSize {
        if let Some(workers) = self.workers {
            return PoolSize { threads: workers.max(1), max_threads: workers.max(1) };
        }
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        PoolSize { threads: cores, max_threads: MAX_WORKERS.max(cores) }
    }

    /// Returns the number of requests of one peer that the server takes at a time.
    pub(crate) fn max_requests(&self) -> usize {
        let in_flight = self.max_in_flight - reserve_of(self.max_in_flight);
        self.max_waiting.unwrap_or(usize::MAX).min(in_flight).max(1)
    }

    pub(crate) fn service_limits(&self) -> ServiceLimits {
        ServiceLimits {
            max_in_flight: self.max_in_flight.max(1),
            max_bytes_in_flight: self.max_bytes_in_flight,
            max_unread_bytes: self.max_unread_bytes,
            max_message_size: self.max_message_size,
            stream_window: self.stream_window,
            stream_idle_timeout: self.stream_idle_timeout,
            reply_cache: CacheLimits {
                ttl: self.remember_replies_for,
                calls: self.max_remembered_replies,
                bytes: self.max_remembered_bytes,
            },
        }
    }

    /// Returns the options of the transports. Fails if they would not protect what they seem to.
    #[cfg_attr(not(feature = "curve"), allow(clippy::unnecessary_wraps))]
    pub(crate) fn transport(&self) -> Result<TransportConfig, ServeError> {
        #[cfg(feature = "curve")]
        let curve = match (&self.curve, &self.gate.access) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(curve("an access list needs keys: set `.curve(secret)`"));
            }
            (Some(_), None) => {
                return Err(curve(
                    "anybody can make a key: set `.access(list)`, with the keys that may connect, \
                     or with `allow_any_key`",
                ));
            }
            (Some(_), Some(_)) if self.engine != Engine::Omq => {
                return Err(curve("this engine has no CURVE: set `.engine(Engine::Omq)`"));
            }
            (Some(secret), Some(access)) => {
                if access.is_empty() {
                    tracing::warn!("the access list is empty: nobody can call this server yet");
                }
                Some(Curve::Server { secret: secret.clone(), access: access.clone() })
            }
        };
        Ok(TransportConfig {
            engine: self.engine,
            max_message_size: self.max_message_size,
            #[cfg(feature = "curve")]
            curve,
        })
    }
}

#[cfg(feature = "curve")]
fn curve(reason: &'static str) -> ServeError {
    ServeError::Curve { reason }
}
