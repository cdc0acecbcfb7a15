//! Calls with an idempotency key: each is run once, and answered to everyone who asks.
//!
//! The function runs on behalf of its key, and every request with that key waits for its completion:
//! the first one as well as a retry on another connection or listener. So it makes no difference whose
//! connection is lost.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;

use crate::{
    context::Context,
    server::{
        completion::{Completion, RequestAddress},
        reply_cache::{CacheLimits, Departure, Lookup, ReplyCache},
    },
};

/// An idempotency key.
#[derive(Debug, Clone)]
pub(crate) struct Key(Bytes);

/// The calls of a server that have a key. The lock is taken only for requests that have one.
#[derive(Debug)]
pub(crate) struct Idempotency(Mutex<ReplyCache<RequestAddress>>);

impl Idempotency {
    pub(crate) fn new(limits: CacheLimits) -> Self {
        Self(Mutex::new(ReplyCache::new(limits)))
    }

    fn lock(&self) -> MutexGuard<'_, ReplyCache<RequestAddress>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a call up, and begins it if it is unknown. See [`ReplyCache::lookup_or_begin`].
    pub(crate) fn lookup_or_begin(
        &self,
        key: &[u8],
        function: &'static str,
        params: &[u8],
        now: Instant,
    ) -> (Key, Lookup) {
        // A slice would keep the whole request alive.
        let key = Bytes::copy_from_slice(key);
        let found = self.lock().lookup_or_begin(&key, function, params, now);
        (Key(key), found)
    }

    /// Notes which request runs the function of a call that has begun.
    pub(crate) fn attach(&self, key: &Key, run: RequestAddress, context: Context) {
        self.lock().attach(&key.0, run, context);
    }

    /// Lets a request wait for the completion of a call.
    pub(crate) fn join(&self, key: &Key, waiter: RequestAddress) {
        self.lock().join(&key.0, waiter);
    }

    /// Lets a request wait no longer. Returns `None` if the call has ended: a completion is on its way.
    pub(crate) fn leave(
        &self,
        key: &Key,
        waiter: &RequestAddress,
    ) -> Option<Departure<RequestAddress>> {
        self.lock().leave(&key.0, waiter)
    }

    /// Returns true if a request waits for a call that runs.
    pub(crate) fn is_wanted(&self, key: &Key) -> bool {
        self.lock().is_wanted(&key.0)
    }

    /// Ends a call with its response, and completes every request that waits for it.
    pub(crate) fn end(&self, key: &Key, reply: &Bytes, ran: bool, now: Instant) {
        let waiters = self.lock().end(&key.0, reply, ran, now);
        for RequestAddress { queue, ticket } in waiters {
            queue.send(Completion::Ended { ticket, result: Ok(reply.clone()) });
        }
    }
}
