//! The reply cache. It holds the replies to calls with an idempotency key, so that a retry is
//! answered from the cache and the function does not run again. No I/O, no clock.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::context::Context;

/// The limits of a reply cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheLimits {
    /// The time for which a reply is kept. It starts when the function ends.
    pub(crate) ttl: Duration,
    /// The maximum number of calls, including those that still run.
    pub(crate) calls: usize,
    /// The maximum number of bytes of all replies and their keys together.
    pub(crate) bytes: usize,
}

/// The calls with an idempotency key, over all listeners of a server. `A` is the type that
/// addresses a request.
#[derive(Debug)]
pub(crate) struct ReplyCache<A> {
    limits: CacheLimits,
    calls: HashMap<Bytes, CachedCall<A>>,
    /// The keys of the calls that have ended, each with the time of its end, the oldest first.
    ended: VecDeque<(Bytes, Instant)>,
    /// The number of bytes of the replies and keys of all calls that have ended.
    bytes: usize,
    /// The hasher of the params. It is seeded at random, so that no client can construct two calls
    /// with the same fingerprint.
    hasher: RandomState,
}

#[derive(Debug)]
struct CachedCall<A> {
    fingerprint: Fingerprint,
    state: CachedState<A>,
}

#[derive(Debug)]
enum CachedState<A> {
    /// The function runs, waits for a worker, or is about to be started.
    Running(RunningCall<A>),
    /// The function has ended with this response.
    Ended(Bytes),
}

#[derive(Debug)]
struct RunningCall<A> {
    /// The request that runs the function, and its context. `None` until the function was started.
    run: Option<(A, Context)>,
    /// The requests that wait for the completion.
    waiters: Vec<A>,
}

/// The fingerprint of a call, which detects another call that has the same key by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    function: &'static str,
    /// The hash of the params.
    params: u64,
}

/// The result of [`ReplyCache::lookup_or_begin`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The call was unknown, and has now begun. The function must be started.
    Begun,
    /// The call was unknown, and the cache is full of calls that run.
    Full,
    /// The key belongs to a call of another function, or to a call with other params.
    OtherCall,
    /// The function has not ended yet.
    Running,
    /// The function has ended with this response, which was made for an arbitrary msgid.
    Ended(Bytes),
}

/// The state of a call after a waiter was removed from it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Departure<A> {
    /// True if the function has started.
    pub(crate) started: bool,
    /// The request that runs the function, if the removed waiter was the last one.
    pub(crate) unwanted: Option<A>,
}

impl<A: Clone + PartialEq> ReplyCache<A> {
    pub(crate) fn new(limits: CacheLimits) -> Self {
        let limits = CacheLimits { calls: limits.calls.max(1), ..limits };
        let (calls, ended, hasher) = (HashMap::new(), VecDeque::new(), RandomState::new());
        Self { limits, calls, ended, bytes: 0, hasher }
    }

    /// Looks a call up at `now`. Begins it if it is unknown and there is capacity.
    pub(crate) fn lookup_or_begin(
        &mut self,
        key: &Bytes,
        function: &'static str,
        params: &[u8],
        now: Instant,
    ) -> Lookup {
        let fingerprint = Fingerprint { function, params: self.hasher.hash_one(params) };
        self.drop_expired(now);
        match self.calls.get(key) {
            Some(call) if call.fingerprint != fingerprint => return Lookup::OtherCall,
            Some(CachedCall { state: CachedState::Running(_), .. }) => return Lookup::Running,
            Some(CachedCall { state: CachedState::Ended(reply), .. }) => {
                return Lookup::Ended(reply.clone());
            }
            None => {}
        }
        if self.calls.len() >= self.limits.calls {
            self.drop_oldest();
        }
        if self.calls.len() >= self.limits.calls {
            return Lookup::Full;
        }
        let state = CachedState::Running(RunningCall { run: None, waiters: Vec::new() });
        self.calls.insert(key.clone(), CachedCall { fingerprint, state });
        Lookup::Begun
    }

    /// Records the request that runs the function of a call that has begun.
    pub(crate) fn attach(&mut self, key: &Bytes, run: A, context: Context) {
        if let Some(call) = self.running(key) {
            call.run = Some((run, context));
        }
    }

    /// Adds a waiter to a call that has not ended.
    pub(crate) fn join(&mut self, key: &Bytes, waiter: A) {
        if let Some(call) = self.running(key) {
            call.waiters.push(waiter);
        }
    }

    /// Removes a waiter. Returns `None` if the call has ended in the meantime: a completion was
    /// sent to the waiter.
    pub(crate) fn leave(&mut self, key: &Bytes, waiter: &A) -> Option<Departure<A>> {
        let call = self.running(key)?;
        let at = call.waiters.iter().position(|found| found == waiter)?;
        call.waiters.swap_remove(at);
        let run = call.run.as_ref();
        Some(Departure {
            started: run.is_some_and(|(_, context)| context.has_started()),
            unwanted: run.filter(|_| call.waiters.is_empty()).map(|(run, _)| run.clone()),
        })
    }

    /// Returns true if the call runs and at least one request waits for it.
    pub(crate) fn is_wanted(&mut self, key: &Bytes) -> bool {
        self.running(key).is_some_and(|call| !call.waiters.is_empty())
    }

    /// Ends a call, and returns its waiters. The reply is kept if the function has run. Otherwise
    /// the call is removed, and the next request with its key may run the function.
    pub(crate) fn end(&mut self, key: &Bytes, reply: &Bytes, ran: bool, now: Instant) -> Vec<A> {
        let Some(CachedCall { fingerprint, state: CachedState::Running(call) }) =
            self.calls.remove(key)
        else {
            return Vec::new();
        };
        if ran {
            self.bytes += key.len() + reply.len();
            self.ended.push_back((key.clone(), now));
            // Copied, because the original may have spare capacity, which would not be counted.
            let state = CachedState::Ended(Bytes::copy_from_slice(reply));
            self.calls.insert(key.clone(), CachedCall { fingerprint, state });
            while self.bytes > self.limits.bytes {
                self.drop_oldest();
            }
        }
        call.waiters
    }

    fn running(&mut self, key: &Bytes) -> Option<&mut RunningCall<A>> {
        match &mut self.calls.get_mut(key)?.state {
            CachedState::Running(call) => Some(call),
            CachedState::Ended(_) => None,
        }
    }

    fn drop_expired(&mut self, now: Instant) {
        let ttl = self.limits.ttl;
        let expired = |ended: &Instant| now.duration_since(*ended) >= ttl;
        while self.ended.front().is_some_and(|(_, ended)| expired(ended)) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((key, _)) = self.ended.pop_front() else { return };
        if let Some(CachedCall { state: CachedState::Ended(reply), .. }) = self.calls.remove(&key) {
            self.bytes -= key.len() + reply.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::PeerId;

    const SECOND: Duration = Duration::from_secs(1);
    const REPLY: Bytes = Bytes::from_static(b"12345678");

    type Tested = ReplyCache<u32>;

    fn cache(calls: usize, bytes: usize) -> Tested {
        ReplyCache::new(CacheLimits { ttl: 10 * SECOND, calls, bytes })
    }

    fn key(n: usize) -> Bytes {
        Bytes::from(format!("{n:02}"))
    }

    /// Looks the call `n` up. If it begins, adds the waiter `n` and the request that runs the
    /// function.
    fn begin(cache: &mut Tested, n: usize, now: Instant) -> Lookup {
        let found = cache.lookup_or_begin(&key(n), "f", b"\x90", now);
        if found == Lookup::Begun {
            let waiter = u32::try_from(n).unwrap();
            cache.join(&key(n), waiter);
            cache.attach(&key(n), 1_000 + waiter, Context::new(PeerId::default(), "f", None));
        }
        found
    }

    #[test]
    fn reply_is_kept_for_its_ttl() {
        let (mut cache, now) = (cache(10, 1_000), Instant::now());
        assert_eq!(begin(&mut cache, 1, now), Lookup::Begun);
        assert_eq!(begin(&mut cache, 1, now), Lookup::Running);
        assert_eq!(cache.end(&key(1), &REPLY, true, now), [1]);
        assert_eq!(begin(&mut cache, 1, now + 9 * SECOND), Lookup::Ended(REPLY));
        assert_eq!(begin(&mut cache, 1, now + 10 * SECOND), Lookup::Begun);
        assert_eq!(cache.bytes, 0);
    }

    #[test]
    fn call_that_has_not_run_is_not_cached() {
        let (mut cache, now) = (cache(10, 1_000), Instant::now());
        begin(&mut cache, 1, now);
        assert_eq!(cache.end(&key(1), &REPLY, false, now), [1]);
        assert!(cache.end(&key(1), &REPLY, true, now).is_empty(), "the call has ended already");
        assert_eq!(begin(&mut cache, 1, now), Lookup::Begun);
    }

    #[test]
    fn key_of_another_call_is_detected() {
        let (mut cache, now) = (cache(10, 1_000), Instant::now());
        begin(&mut cache, 1, now);
        let look = |cache: &mut Tested, function, params: &[u8]| {
            cache.lookup_or_begin(&key(1), function, params, now)
        };
        assert_eq!(look(&mut cache, "g", b"\x90"), Lookup::OtherCall);
        assert_eq!(look(&mut cache, "f", b"\x80"), Lookup::OtherCall);
        cache.end(&key(1), &REPLY, true, now);
        assert_eq!(look(&mut cache, "g", b"\x90"), Lookup::OtherCall);
    }

    #[test]
    fn call_without_waiters_is_unwanted() {
        let (mut cache, now) = (cache(10, 1_000), Instant::now());
        begin(&mut cache, 1, now);
        cache.join(&key(1), 2);
        cache.join(&key(1), 3);
        let departure = |started, unwanted| Some(Departure { started, unwanted });
        assert_eq!(cache.leave(&key(1), &2), departure(false, None));
        assert_eq!(cache.leave(&key(1), &2), None);
        assert_eq!(cache.leave(&key(1), &1), departure(false, None));
        let (_, context) = cache.running(&key(1)).unwrap().run.as_ref().unwrap();
        context.start(Instant::now());
        assert_eq!(cache.leave(&key(1), &3), departure(true, Some(1_001)));
        assert!(!cache.is_wanted(&key(1)));
        cache.join(&key(1), 4);
        assert!(cache.is_wanted(&key(1)));
        assert_eq!(cache.end(&key(1), &REPLY, true, now), [4]);
        assert_eq!(cache.leave(&key(1), &4), None, "the waiter has its completion");
    }

    #[test]
    fn oldest_reply_is_dropped_first() {
        let (mut cache, now) = (cache(3, 1_000), Instant::now());
        for n in 1..=3 {
            assert_eq!(begin(&mut cache, n, now), Lookup::Begun);
        }
        assert_eq!(begin(&mut cache, 4, now), Lookup::Full);
        cache.end(&key(2), &REPLY, true, now);
        cache.end(&key(1), &REPLY, true, now);
        assert_eq!(begin(&mut cache, 4, now), Lookup::Begun);
        assert_eq!(begin(&mut cache, 1, now), Lookup::Ended(REPLY));
        // The reply of 2 was the oldest one. It is replaced by the call 4, and that of 1 by the
        // call 2.
        assert_eq!(begin(&mut cache, 2, now), Lookup::Begun);
        assert_eq!(begin(&mut cache, 3, now), Lookup::Running);
        assert_eq!(begin(&mut cache, 1, now), Lookup::Full);
        assert_eq!((cache.calls.len(), cache.ended.len(), cache.bytes), (3, 0, 0));
    }

    #[test]
    fn bytes_of_replies_are_bounded() {
        let (mut cache, now) = (cache(100, 25), Instant::now());
        for n in 1..=3 {
            begin(&mut cache, n, now);
            cache.end(&key(n), &REPLY, true, now);
            assert!(cache.bytes <= 25);
        }
        assert_eq!(begin(&mut cache, 1, now), Lookup::Begun);
        assert_eq!(begin(&mut cache, 3, now), Lookup::Ended(REPLY));
    }
}
