//! The replies to calls that have an idempotency key. A call that has run is answered from here, and
//! not run again. No I/O, no clock.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::context::Context;

/// The bounds of a cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheLimits {
    /// The time for which a reply is kept, from the end of its function.
    pub(crate) ttl: Duration,
    /// The number of calls, including those that still run.
    pub(crate) calls: usize,
    /// The bytes of all replies and their keys together.
    pub(crate) bytes: usize,
}

/// The calls that have a key, over all listeners of a server. `A` is the address of a request.
#[derive(Debug)]
pub(crate) struct ReplyCache<A> {
    limits: CacheLimits,
    calls: HashMap<Bytes, CachedCall<A>>,
    /// The keys of the calls that have ended, and the times, from the oldest on.
    ended: VecDeque<(Bytes, Instant)>,
    /// The bytes of the replies and keys of calls that have ended.
    bytes: usize,
    /// Seeded at random, so that nobody can make two calls look the same.
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
    /// The request that runs the function. `None` until it was started.
    run: Option<(A, Context)>,
    waiters: Vec<A>,
}

/// Tells a call from another one that has the same key by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    function: &'static str,
    params: u64,
}

/// The state of a call, as [`ReplyCache::lookup_or_begin`] found it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The call was unknown, and has now begun: its function is to be started.
    Begun,
    /// The call was unknown, and as many calls run as the cache holds.
    Full,
    /// The key belongs to a call of another function, or with other params.
    OtherCall,
    /// The function has not ended yet.
    Running,
    /// The function has ended with this response, to some msgid.
    Ended(Bytes),
}

/// The state of a call when a waiter has left it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Departure<A> {
    /// True if the function has started.
    pub(crate) started: bool,
    /// The request that runs the function, if this was the last waiter.
    pub(crate) unwanted: Option<A>,
}

impl<A: Clone + PartialEq> ReplyCache<A> {
    pub(crate) fn new(limits: CacheLimits) -> Self {
        let limits = CacheLimits { calls: limits.calls.max(1), ..limits };
        let (calls, ended, hasher) = (HashMap::new(), VecDeque::new(), RandomState::new());
        Self { limits, calls, ended, bytes: 0, hasher }
    }

    /// Looks a call up at `now`, and begins it if it is unknown and there is room.
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

    /// Notes which request runs the function of a call that has begun.
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

    /// Removes a waiter. Returns `None` if the call has ended meanwhile: the waiter was told.
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

    /// Returns true if somebody waits for a call that runs.
    pub(crate) fn is_wanted(&mut self, key: &Bytes) -> bool {
        self.running(key).is_some_and(|call| !call.waiters.is_empty())
    }

    /// Ends a call, and returns its waiters. The reply is kept if the function has run. Otherwise the
    /// next try may run it.
    pub(crate) fn end(&mut self, key: &Bytes, reply: &Bytes, ran: bool, now: Instant) -> Vec<A> {
        let Some(CachedCall { fingerprint, state: CachedState::Running(call) }) =
            self.calls.remove(key)
        else {
            return Vec::new();
        };
        if ran {
            self.bytes += key.len() + reply.len();
            self.ended.push_back((key.clone(), now));
            // A copy has no spare capacity that is not counted.
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

    /// Looks the call `n` up. If it begins, the waiter `n` waits for it.
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
    fn reply_is_kept_for_its_time() {
        let (mut cache, now) = (cache(10, 1_000), Instant::now());
        assert_eq!(begin(&mut cache, 1, now), Lookup::Begun);
        assert_eq!(begin(&mut cache, 1, now), Lookup::Running);
        assert_eq!(cache.end(&key(1), &REPLY, true, now), [1]);
        assert_eq!(begin(&mut cache, 1, now + 9 * SECOND), Lookup::Ended(REPLY));
        assert_eq!(begin(&mut cache, 1, now + 10 * SECOND), Lookup::Begun);
        assert_eq!(cache.bytes, 0);
    }

    #[test]
    fn call_that_has_not_run_is_forgotten() {
        let (mut cache, now) = (cache(10, 1_000), Instant::now());
        begin(&mut cache, 1, now);
        assert_eq!(cache.end(&key(1), &REPLY, false, now), [1]);
        assert_eq!(cache.end(&key(1), &REPLY, true, now), [], "it has ended already");
        assert_eq!(begin(&mut cache, 1, now), Lookup::Begun);
    }

    #[test]
    fn key_belongs_to_one_function_and_its_params() {
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
    fn last_waiter_leaves_the_call_unwanted() {
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
        assert_eq!(cache.leave(&key(1), &4), None, "it was told");
    }

    #[test]
    fn oldest_reply_is_dropped_and_running_calls_stay() {
        let (mut cache, now) = (cache(3, 1_000), Instant::now());
        for n in 1..=3 {
            assert_eq!(begin(&mut cache, n, now), Lookup::Begun);
        }
        assert_eq!(begin(&mut cache, 4, now), Lookup::Full);
        cache.end(&key(2), &REPLY, true, now);
        cache.end(&key(1), &REPLY, true, now);
        assert_eq!(begin(&mut cache, 4, now), Lookup::Begun);
        assert_eq!(begin(&mut cache, 1, now), Lookup::Ended(REPLY));
        assert_eq!(begin(&mut cache, 2, now), Lookup::Begun, "it was the oldest; now 1 is");
        assert_eq!(begin(&mut cache, 3, now), Lookup::Running);
        assert_eq!(begin(&mut cache, 1, now), Lookup::Full);
        assert_eq!((cache.calls.len(), cache.ended.len(), cache.bytes), (3, 0, 0));
    }

    #[test]
    fn bytes_are_bounded() {
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
