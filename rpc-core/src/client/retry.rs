//! When a call is tried again: which failures allow it, how long it waits, and how many retries all
//! calls of a client may make together. No I/O, no clock.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{ErrorKind, Ran, RpcError};

/// The pause before the first retry; it doubles with each, up to the longest. The first is what a
/// server needs to be relieved of a burst, the longest what a caller hardly notices in a call that
/// takes that long anyway.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a call says about failing.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Calling it again does no harm.
    pub(crate) idempotent: bool,
    /// How often it may be tried again.
    pub(crate) retries: u32,
    /// It fails at once when there is no link.
    pub(crate) fail_fast: bool,
    /// The server remembers its reply under this name.
    pub(crate) key: Option<Bytes>,
}

impl Rules {
    /// Whether a call that failed with `error` may be tried again, as far as the call itself is
    /// concerned. `remembered` if a server remembers the reply under its key.
    pub(crate) fn allow(&self, error: &RpcError, retries: u32, remembered: bool) -> bool {
        let passing = matches!(
            error.kind(),
            ErrorKind::Disconnected | ErrorKind::Overloaded | ErrorKind::ShuttingDown
        );
        let safe =
            error.ran() == Ran::No || self.idempotent || (remembered && error.ran() == Ran::Maybe);
        passing && safe && retries < self.retries
    }
}

/// How long to wait before the retry after `retries` others: exponential, and somewhere in its
/// upper half at random, so that calls which failed together do not come back together; shorter
/// where there is not so much time `left` for the call. Never less than the server asked for.
/// `None` if there is no time for another.
pub(crate) fn pause(
    retries: u32,
    asked: Option<Duration>,
    left: Duration,
    random: &mut fastrand::Rng,
) -> Option<Duration> {
    let full = FIRST_PAUSE.saturating_mul(1 << retries.min(16)).min(LONGEST_PAUSE);
    let pause = full.mul_f64(0.5 + random.f64() / 2.0);
    let least = asked.unwrap_or_default().max(FIRST_PAUSE / 2);
    let spare = left.checked_sub(least).filter(|spare| !spare.is_zero())?;
    let asked = asked.map_or(Duration::ZERO, |asked| asked.mul_f64(1.0 + random.f64() / 4.0));
    Some(pause.max(asked).min(least + spare / 2))
}

/// Bounds the retries of all calls of a client, so that a failing service is not hit by a multiple
/// of its usual load. A bucket of tokens: a retry takes one, a call brings a fifth of one, and each
/// second brings ten.
#[derive(Debug)]
pub(crate) struct Budget {
    tokens: f64,
    filled_at: Option<Instant>,
}

impl Budget {
    /// As many calls as a client has in flight on a server that dies can be tried again at once, by
    /// most clients.
    const MOST: f64 = 1_000.0;
    /// In the long run, at most a fifth more load.
    const PER_CALL: f64 = 0.2;
    /// So that a client which makes a call now and then can retry it.
    const PER_SECOND: f64 = 10.0;

    pub(crate) fn new() -> Self {
        Self { tokens: Self::MOST, filled_at: None }
    }

    /// A call was made.
    pub(crate) fn deposit(&mut self) {
        self.tokens = (self.tokens + Self::PER_CALL).min(Self::MOST);
    }

    /// Takes a token for a retry; or tells when there will be one.
    pub(crate) fn withdraw(&mut self, now: Instant) -> Result<(), Instant> {
        let filled_at = self.filled_at.unwrap_or(now);
        let since = now.saturating_duration_since(filled_at);
        self.tokens = (self.tokens + since.as_secs_f64() * Self::PER_SECOND).min(Self::MOST);
        // Threads that block look with an older clock, and must not make the same time count twice.
        self.filled_at = Some(now.max(filled_at));
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(now + Duration::from_secs_f64((1.0 - self.tokens) / Self::PER_SECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules { idempotent: false, retries: 3, fail_fast: false, key: None }
    }

    #[test]
    fn only_passing_failures_that_are_safe_are_tried_again() {
        use ErrorKind::{
            Disconnected, Failed, Overloaded, Panicked, ShuttingDown, UnknownFunction,
        };
        let once = rules();
        let again = Rules { idempotent: true, ..rules() };
        for (kind, ran, plainly, safely) in [
            (Disconnected, Ran::No, true, true),
            (Overloaded, Ran::No, true, true),
            (ShuttingDown, Ran::No, true, true),
            (Disconnected, Ran::Maybe, false, true),
            (Failed, Ran::Yes, false, false),
            (Panicked, Ran::Yes, false, false),
            (UnknownFunction, Ran::No, false, false),
        ] {
            let error = RpcError::new(kind, ran, "");
            assert_eq!(once.allow(&error, 0, false), plainly, "{kind:?} {ran:?}");
            assert_eq!(again.allow(&error, 0, false), safely, "{kind:?} {ran:?}");
            assert_eq!(once.allow(&error, 0, true), safely, "{kind:?} {ran:?}");
            assert!(!again.allow(&error, 3, true));
        }
    }

    #[test]
    fn what_a_server_gave_up_is_made_again_only_if_it_is_idempotent() {
        let error = RpcError::new(ErrorKind::ShuttingDown, Ran::Yes, "");
        assert!(Rules { idempotent: true, ..rules() }.allow(&error, 0, false));
        assert!(!rules().allow(&error, 0, false));
        assert!(!rules().allow(&error, 0, true), "that is what is remembered");
    }

    #[test]
    fn pauses_double_with_jitter_up_to_the_longest() {
        let mut random = fastrand::Rng::with_seed(7);
        let left = Duration::from_secs(60);
        for (retries, longest) in
            [(0, 10), (1, 20), (2, 40), (7, 1_000), (40, 1_000), (u32::MAX, 1_000)]
        {
            let longest = Duration::from_millis(longest);
            let pauses: Vec<_> =
                (0..100).map(|_| pause(retries, None, left, &mut random).unwrap()).collect();
            assert!(
                pauses.iter().all(|pause| (longest / 2..=longest).contains(pause)),
                "{pauses:?}"
            );
            assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        }
        let asked = Duration::from_secs(3);
        assert!(
            (asked..=asked * 5 / 4).contains(&pause(0, Some(asked), left, &mut random).unwrap())
        );
        assert!(pause(7, Some(Duration::ZERO), left, &mut random).unwrap() >= LONGEST_PAUSE / 2);
    }

    #[test]
    fn calls_are_made_again_until_there_is_no_time() {
        let mut random = fastrand::Rng::with_seed(7);
        for asked in [None, Some(Duration::from_millis(100))] {
            let least = asked.unwrap_or(FIRST_PAUSE / 2);
            let (mut left, mut retries) = (Duration::from_secs(2), 0);
            while let Some(pause) = pause(retries, asked, left, &mut random) {
                assert!((least..=left).contains(&pause), "{pause:?} of {left:?}");
                left -= pause;
                retries += 1;
            }
            assert!(left <= least, "{left:?} after {retries} with {asked:?}");
            assert!(retries < 60, "{retries}");
        }
    }

    #[test]
    fn a_budget_that_is_spent_says_when_to_come_back() {
        let now = Instant::now();
        let mut budget = Budget::new();
        for _ in 0..1_000 {
            budget.withdraw(now).unwrap();
        }
        let next = budget.withdraw(now).unwrap_err();
        assert!(next > now && next <= now + Duration::from_millis(101), "{:?}", next - now);
        budget.withdraw(next + Duration::from_micros(1)).unwrap();
        // Calls bring tokens, without time passing.
        let now = next + Duration::from_micros(2);
        budget.withdraw(now).unwrap_err();
        (0..5).for_each(|_| budget.deposit());
        budget.withdraw(now).unwrap();
        // Who looks with an older clock does not bring the same time twice.
        let older = now + Duration::from_millis(1);
        let now = older + Duration::from_millis(100);
        while budget.withdraw(now).is_ok() {}
        for _ in 0..10 {
            budget.withdraw(older).unwrap_err();
            budget.withdraw(now).unwrap_err();
        }
        // However long nothing happens, there is a most.
        let later = now + Duration::from_secs(86_400);
        assert_eq!((0..2_000).filter(|_| budget.withdraw(later).is_ok()).count(), 1_000);
    }
}
