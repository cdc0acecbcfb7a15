//! Calls with an idempotency key. The function runs once, and every request with the key is
//! answered.
//!
//! The function runs on behalf of its key. Every request with that key waits for the completion:
//! the first one, and also a retry on another connection or listener. So the function is
//! independent of the connections of its callers.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;

use crate::{
    context::Context,
    peer::PeerId,
    server::{
        completion::{Completion, RequestAddress},
        reply_cache::{CacheLimits, Departure, Lookup, ReplyCache},
    },
};

/// An idempotency key, of the callers that have the same verified key, or none. Others with the same
/// idempotency key make another call.
#[derive(Debug, Clone)]
pub(crate) struct Key(Bytes);

/// The number of bytes that a [`Key`] has more than the idempotency key.
pub(crate) const SCOPE_LEN: usize = 33;

impl Key {
    /// Copies a key, because a slice would keep the whole request in memory.
    fn new(peer: &PeerId, key: &[u8]) -> Self {
        let scope = peer.verification().map_or(&[][..], |verified| &verified.key);
        // The first byte tells where the key begins, so that no key can look like a scope.
        let start = u8::from(!scope.is_empty());
        Self([&[start], scope, key].concat().into())
    }
}

/// The calls of a server with an idempotency key. The lock is taken only for requests with a key.
#[derive(Debug)]
pub(crate) struct Idempotency(Mutex<ReplyCache<RequestAddress>>);

impl Idempotency {
    pub(crate) fn new(limits: CacheLimits) -> Self {
        Self(Mutex::new(ReplyCache::new(limits)))
    }

    fn lock(&self) -> MutexGuard<'_, ReplyCache<RequestAddress>> {
        // A poisoned lock can be ignored, because nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a call up. Begins it if it is unknown. See [`ReplyCache::lookup_or_begin`].
    pub(crate) fn lookup_or_begin(
        &self,
        peer: &PeerId,
        key: &[u8],
        function: &'static str,
        params: &[u8],
        now: Instant,
    ) -> (Key, Lookup) {
        let key = Key::new(peer, key);
        let found = self.lock().lookup_or_begin(&key.0, function, params, now);
        (key, found)
    }

    /// Records the request that runs the function of a call that has begun.
    pub(crate) fn attach(&self, key: &Key, run: RequestAddress, context: Context) {
        self.lock().attach(&key.0, run, context);
    }

    /// Adds a request that waits for the completion of a call.
    pub(crate) fn join(&self, key: &Key, waiter: RequestAddress) {
        self.lock().join(&key.0, waiter);
    }

    /// Removes a request that waits for a call. Returns `None` if the call has ended: a completion
    /// was sent to the request.
    pub(crate) fn leave(
        &self,
        key: &Key,
        waiter: &RequestAddress,
    ) -> Option<Departure<RequestAddress>> {
        self.lock().leave(&key.0, waiter)
    }

    /// Returns true if the call runs and at least one request waits for it.
    pub(crate) fn is_wanted(&self, key: &Key) -> bool {
        self.lock().is_wanted(&key.0)
    }

    /// Ends a call with its response, and sends a completion to every request that waits for it.
    pub(crate) fn end(&self, key: &Key, reply: &Bytes, ran: bool, now: Instant) {
        let waiters = self.lock().end(&key.0, reply, ran, now);
        for RequestAddress { queue, ticket } in waiters {
            queue.send(Completion::Ended { ticket, result: Ok(reply.clone()) });
        }
    }
}
