//! The part of a server that all its listeners share.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use crate::{
    arrivals::{Arrivals, GiveCredit},
    peer::PeerId,
    protocol::{MAX_KEY_LEN, error::WireError},
    server::{
        admission::Admission,
        gate::Gate,
        hooks::Hooks,
        idempotency::{Idempotency, SCOPE_LEN},
        quota::UnreadLimits,
        registry::Registry,
        reply_cache::CacheLimits,
        windows::Windows,
    },
};

/// The limits of a [`Service`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServiceLimits {
    pub(crate) max_in_flight: usize,
    pub(crate) max_bytes_in_flight: usize,
    pub(crate) max_unread_bytes: usize,
    /// The largest size of a request or response, in bytes.
    pub(crate) max_message_size: usize,
    /// The bytes of items of a stream among the arguments that may be on their way or wait.
    pub(crate) stream_window: u64,
    pub(crate) stream_idle_timeout: Duration,
    pub(crate) reply_cache: CacheLimits,
}

/// The functions of a server, with the limits and caches that hold for all its listeners.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) registry: Registry,
    pub(crate) gate: Gate,
    pub(crate) hooks: Option<Arc<Hooks>>,
    pub(crate) admission: Admission,
    pub(crate) windows: Windows,
    /// The limits of the bytes that wait until peers read them.
    pub(crate) unread: UnreadLimits,
    pub(crate) idempotency: Idempotency,
    /// The largest size of a request or response, in bytes.
    pub(crate) max_message_size: usize,
    /// The bytes of items of a stream among the arguments that may be on their way or wait. They are
    /// admitted with the call.
    pub(crate) stream_window: usize,
    stream_idle_timeout: Duration,
    /// A random name, so that clients can tell a restarted server from this one.
    pub(crate) instance: String,
}

impl Service {
    /// Makes a service. The byte limits are raised if necessary, so that the largest message always
    /// fits together with its key.
    pub(crate) fn new(
        registry: Registry,
        gate: Gate,
        hooks: Option<Arc<Hooks>>,
        limits: ServiceLimits,
    ) -> Self {
        let ServiceLimits { max_in_flight, max_bytes_in_flight, max_message_size, .. } = limits;
        let cached_bytes =
            limits.reply_cache.bytes.max(max_message_size.saturating_add(MAX_KEY_LEN + SCOPE_LEN));
        let stream_window = usize::try_from(limits.stream_window).unwrap_or(usize::MAX);
        Self {
            registry,
            gate,
            hooks,
            admission: Admission::new(max_in_flight, max_bytes_in_flight, max_message_size),
            windows: Windows::new(max_in_flight, max_bytes_in_flight.max(max_message_size)),
            unread: UnreadLimits::new(limits.max_unread_bytes, max_message_size),
            idempotency: Idempotency::new(CacheLimits {
                bytes: cached_bytes,
                ..limits.reply_cache
            }),
            max_message_size,
            // One call must not take all of the capacity.
            stream_window: stream_window.min(max_bytes_in_flight / 8).max(1),
            stream_idle_timeout: limits.stream_idle_timeout,
            instance: random_name(),
        }
    }

    /// Returns the bytes that are admitted for a request of `len` bytes which passes a stream: as
    /// if the first items were here already.
    pub(crate) fn with_stream(&self, len: usize) -> usize {
        len.saturating_add(self.stream_window).min(self.admission.max_bytes())
    }

    /// Makes the way of the items that a caller sends. `give` gives it credit.
    pub(crate) fn arrivals(&self, give: GiveCredit) -> Arc<Arrivals> {
        Arrivals::new(self.stream_window, self.stream_idle_timeout, give)
    }

    /// Makes the error for a name that no function has. It tells a peer of no other functions than
    /// those that it may call.
    pub(crate) fn not_found(&self, peer: &PeerId, name: &str) -> WireError {
        self.registry.not_found(name, |known| self.gate.permits(peer, known))
    }
}

/// Makes a name that is different for every server. The random seeds come from the hashers of the
/// standard library, so that this needs no dependency.
fn random_name() -> String {
    let word = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", word(), word())
}
