//! The replies to calls that have an idempotency key: a call that has run is answered again and not
//! run again. No I/O, no clock.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::context::Context;

/// An idempotency key.
pub(crate) type Key = Bytes;

/// What is remembered, at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long, from when the function has ended.
    pub(crate) time: Duration,
    /// How many calls, those that still run too.
    pub(crate) calls: usize,
    /// How many bytes the replies and their keys have together.
    pub(crate) bytes: usize,
}

/// The calls with a key, over all listeners of a server. A `W` names what waits for an outcome, or
/// runs.
#[derive(Debug)]
pub(crate) struct ReplyMemory<W> {
    limits: Limits,
    calls: HashMap<Key, Entry<W>>,
    /// The keys of those that have ended, and when; the oldest first.
    ended: VecDeque<(Key, Instant)>,
    /// How many bytes of replies and keys have ended.
    bytes: usize,
    /// At random, so that nobody can make two calls look the same.
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry<W> {
    call: Fingerprint,
    state: State<W>,
}

#[derive(Debug)]
enum State<W> {
    Running(Run<W>),
    Ended(Bytes),
}

/// A function that runs, or waits for a worker.
#[derive(Debug)]
struct Run<W> {
    address: W,
    context: Context,
    waiters: Vec<W>,
}

/// Tells a call from another that has the same key by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    function: &'static str,
    params: u64,
}

/// What is known of a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing, and it may begin.
    Nothing,
    /// Nothing, and as many calls run as are remembered.
    Full,
    /// The key belongs to a call of something else.
    OtherCall,
    /// It has not ended yet.
    Running,
    /// It has ended with this response, to whichever msgid.
    Ended(Bytes),
}

/// What a waiter that does not wait any more leaves behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Left<W> {
    pub(crate) started: bool,
    /// What nobody waits for any more, if it was the last one.
    pub(crate) unwanted: Option<W>,
}

impl<W: Clone + PartialEq> ReplyMemory<W> {
    pub(crate) fn new(limits: Limits) -> Self {
        let (calls, ended, hasher) = (HashMap::new(), VecDeque::new(), RandomState::new());
        Self { limits, calls, ended, bytes: 0, hasher }
    }

    pub(crate) fn fingerprint(&self, function: &'static str, params: &[u8]) -> Fingerprint {
        Fingerprint { function, params: self.hasher.hash_one(params) }
    }

    /// What is known of a call at `now`. If it is nothing, there is room for it.
    pub(crate) fn look(&mut self, key: &[u8], call: Fingerprint, now: Instant) -> Known {
        while self
            .ended
            .front()
            .is_some_and(|(_, ended)| now.duration_since(*ended) >= self.limits.time)
        {
            self.forget_oldest();
        }
        match self.calls.get(key) {
            Some(entry) if entry.call != call => Known::OtherCall,
            Some(Entry { state: State::Running(_), .. }) => Known::Running,
            Some(Entry { state: State::Ended(reply), .. }) => Known::Ended(reply.clone()),
            None => {
                if self.calls.len() >= self.limits.calls.max(1) {
                    self.forget_oldest();
                }
                if self.calls.len() < self.limits.calls.max(1) {
                    Known::Nothing
                } else {
                    Known::Full
                }
            }
        }
    }

    /// Notes that a call of which nothing was known runs as `run`, and that `waiter` waits for it.
    pub(crate) fn begin(
        &mut self,
        key: Key,
        call: Fingerprint,
        context: Context,
        run: W,
        waiter: W,
    ) {
        let state = State::Running(Run { address: run, context, waiters: vec![waiter] });
        self.calls.insert(key, Entry { call, state });
    }

    /// Lets `waiter` wait for a call that runs.
    pub(crate) fn join(&mut self, key: &Key, waiter: W) {
        if let Some(run) = self.running(key) {
            run.waiters.push(waiter);
        }
    }

    /// A waiter does not wait any more. `None` if the call has ended meanwhile, and it was told.
    pub(crate) fn leave(&mut self, key: &Key, waiter: &W) -> Option<Left<W>> {
        let run = self.running(key)?;
        let at = run.waiters.iter().position(|found| found == waiter)?;
        run.waiters.swap_remove(at);
        let unwanted = run.waiters.is_empty().then(|| run.address.clone());
        Some(Left { started: run.context.has_started(), unwanted })
    }

    /// Whether somebody waits for a call that runs.
    pub(crate) fn is_wanted(&mut self, key: &Key) -> bool {
        self.running(key).is_some_and(|run| !run.waiters.is_empty())
    }

    /// A call has ended: who waited is to be told. If its function has not run, the next try may
    /// run it.
    pub(crate) fn end(&mut self, key: &Key, reply: &Bytes, ran: bool, now: Instant) -> Vec<W> {
        let Some(Entry { call, state: State::Running(run) }) = self.calls.remove(key) else {
            return Vec::new();
        };
        if ran {
            self.remember(key.clone(), call, reply, now);
        }
        run.waiters
    }

    /// Remembers how a call has ended that was over at once.
    pub(crate) fn remember(&mut self, key: Key, call: Fingerprint, reply: &Bytes, now: Instant) {
        self.bytes += key.len() + reply.len();
        self.ended.push_back((key.clone(), now));
        // A copy has no spare capacity that nobody counts.
        let state = State::Ended(Bytes::copy_from_slice(reply));
        self.calls.insert(key, Entry { call, state });
        while self.bytes > self.limits.bytes {
            self.forget_oldest();
        }
    }

    fn running(&mut self, key: &Key) -> Option<&mut Run<W>> {
        match &mut self.calls.get_mut(key)?.state {
            State::Running(run) => Some(run),
            State::Ended(_) => None,
        }
    }

    fn forget_oldest(&mut self) {
        let Some((key, _)) = self.ended.pop_front() else { return };
        if let Some(Entry { state: State::Ended(reply), .. }) = self.calls.remove(&key) {
            self.bytes -= key.len() + reply.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const REPLY: Bytes = Bytes::from_static(b"12345678");

    type Tested = ReplyMemory<u32>;

    fn memory(calls: usize, bytes: usize) -> Tested {
        ReplyMemory::new(Limits { time: 10 * SECOND, calls, bytes })
    }

    fn key(n: usize) -> Key {
        Bytes::from(format!("{n:02}"))
    }

    fn context() -> Context {
        Context::new(Bytes::new(), "f", None)
    }

    /// Begins the call `n`, for which a waiter of that number waits.
    fn begin(memory: &mut Tested, n: usize, now: Instant) -> Known {
        let call = memory.fingerprint("f", b"\x90");
        let known = memory.look(&key(n), call, now);
        if known == Known::Nothing {
            let waiter = u32::try_from(n).unwrap();
            memory.begin(key(n), call, context(), 1_000 + waiter, waiter);
        }
        known
    }

    #[test]
    fn a_call_that_has_run_is_known_for_its_time() {
        let (mut memory, now) = (memory(10, 1_000), Instant::now());
        assert_eq!(begin(&mut memory, 1, now), Known::Nothing);
        assert_eq!(begin(&mut memory, 1, now), Known::Running);
        assert_eq!(memory.end(&key(1), &REPLY, true, now), [1]);
        assert_eq!(begin(&mut memory, 1, now + 9 * SECOND), Known::Ended(REPLY));
        assert_eq!(begin(&mut memory, 1, now + 10 * SECOND), Known::Nothing);
        assert_eq!(memory.bytes, 0);
    }

    #[test]
    fn what_has_not_run_is_not_remembered_but_told() {
        let (mut memory, now) = (memory(10, 1_000), Instant::now());
        begin(&mut memory, 1, now);
        assert_eq!(memory.end(&key(1), &REPLY, false, now), [1]);
        assert_eq!(memory.end(&key(1), &REPLY, true, now), [], "it has ended already");
        assert_eq!(begin(&mut memory, 1, now), Known::Nothing);
    }

    #[test]
    fn a_key_belongs_to_one_function_and_its_params() {
        let (mut memory, now) = (memory(10, 1_000), Instant::now());
        begin(&mut memory, 1, now);
        for (function, params) in [("g", b"\x90"), ("f", b"\x80")] {
            let call = memory.fingerprint(function, params);
            assert_eq!(memory.look(&key(1), call, now), Known::OtherCall);
        }
        memory.end(&key(1), &REPLY, true, now);
        let call = memory.fingerprint("g", b"\x90");
        assert_eq!(memory.look(&key(1), call, now), Known::OtherCall);
    }

    #[test]
    fn every_waiter_is_told_unless_it_has_left_and_the_last_one_leaves_it_unwanted() {
        let (mut memory, now) = (memory(10, 1_000), Instant::now());
        begin(&mut memory, 1, now);
        memory.join(&key(1), 2);
        memory.join(&key(1), 3);
        assert_eq!(memory.leave(&key(1), &2), Some(Left { started: false, unwanted: None }));
        assert_eq!(memory.leave(&key(1), &2), None);
        assert_eq!(memory.leave(&key(1), &1), Some(Left { started: false, unwanted: None }));
        memory.running(&key(1)).unwrap().context.start(Instant::now());
        assert_eq!(memory.leave(&key(1), &3), Some(Left { started: true, unwanted: Some(1_001) }));
        memory.join(&key(1), 4);
        assert_eq!(memory.end(&key(1), &REPLY, true, now), [4]);
        assert_eq!(memory.leave(&key(1), &4), None, "it was told");
    }

    #[test]
    fn the_oldest_that_have_ended_are_forgotten_first_and_what_runs_never() {
        let (mut memory, now) = (memory(3, 1_000), Instant::now());
        for n in 1..=3 {
            assert_eq!(begin(&mut memory, n, now), Known::Nothing);
        }
        assert_eq!(begin(&mut memory, 4, now), Known::Full);
        memory.end(&key(2), &REPLY, true, now);
        memory.end(&key(1), &REPLY, true, now);
        assert_eq!(begin(&mut memory, 4, now), Known::Nothing);
        assert_eq!(begin(&mut memory, 1, now), Known::Ended(REPLY));
        assert_eq!(
            begin(&mut memory, 2, now),
            Known::Nothing,
            "it was the oldest; now the other is"
        );
        assert_eq!(begin(&mut memory, 3, now), Known::Running);
        assert_eq!(begin(&mut memory, 1, now), Known::Full);
        assert_eq!((memory.calls.len(), memory.ended.len(), memory.bytes), (3, 0, 0));
    }

    #[test]
    fn bytes_are_bounded() {
        let (mut memory, now) = (memory(100, 25), Instant::now());
        for n in 1..=3 {
            begin(&mut memory, n, now);
            memory.end(&key(n), &REPLY, true, now);
            assert!(memory.bytes <= 25);
        }
        assert_eq!(begin(&mut memory, 1, now), Known::Nothing);
        for n in 2..=3 {
            assert_eq!(begin(&mut memory, n, now), Known::Ended(REPLY));
        }
    }
}
