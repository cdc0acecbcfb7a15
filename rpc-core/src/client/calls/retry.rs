//! Decides when a call is tried again: which failures allow it, the backoff, and the budget for the
//! retries of all calls of a client. No I/O, no clock.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{ErrorKind, Ran, RpcError};

/// The backoff before the first retry. It doubles with each retry, up to [`MAX_BACKOFF`]. A server
/// needs about this long to work off a burst.
pub(crate) const INITIAL_BACKOFF: Duration = Duration::from_millis(10);
/// The longest backoff: hardly noticed in a call that takes so long anyway.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// The instructions of a call for the case that it fails.
#[derive(Debug, Clone)]
pub(crate) struct CallPolicy {
    /// True if calling again does no harm.
    pub(crate) idempotent: bool,
    /// The number of times that it may be tried again.
    pub(crate) retries: u32,
    /// True if it fails at once while there is no link.
    pub(crate) fail_fast: bool,
    /// The idempotency key, under which a server keeps the reply.
    pub(crate) key: Option<Bytes>,
}

impl CallPolicy {
    /// Returns true if a call that failed with `error` may be tried again, as far as the call itself is
    /// concerned. `is_cached` says that a server keeps the reply under the call's key.
    pub(crate) fn allows_retry(&self, error: &RpcError, retries: u32, is_cached: bool) -> bool {
        let is_transient = matches!(
            error.kind(),
            ErrorKind::Disconnected | ErrorKind::Overloaded | ErrorKind::ShuttingDown
        );
        let is_safe =
            error.ran() == Ran::No || self.idempotent || (is_cached && error.ran() == Ran::Maybe);
        is_transient && is_safe && retries < self.retries
    }
}

/// Returns the backoff before the retry that follows `retries` others. `None` if the call has no time
/// `left` for another try.
///
/// It is exponential, and a random point in the upper half, so that calls that failed together do not
/// come back together. It is cut to half of the time that is left, but never below the pause that the
/// server `asked` for.
pub(crate) fn backoff(
    retries: u32,
    asked: Option<Duration>,
    left: Duration,
    random: &mut fastrand::Rng,
) -> Option<Duration> {
    let full = INITIAL_BACKOFF.saturating_mul(1 << retries.min(16)).min(MAX_BACKOFF);
    let backoff = full.mul_f64(0.5 + random.f64() / 2.0);
    let least = asked.unwrap_or_default().max(INITIAL_BACKOFF / 2);
    let spare = left.checked_sub(least).filter(|spare| !spare.is_zero())?;
    let asked = asked.map_or(Duration::ZERO, |asked| asked.mul_f64(1.0 + random.f64() / 4.0));
    Some(backoff.max(asked).min(least + spare / 2))
}

/// Bounds the retries of all calls of a client, so that a failing service is not hit by a multiple of
/// its usual load. It is a token bucket: a retry takes one token, a call adds a fifth of one, and each
/// second adds ten.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    tokens: f64,
    filled_at: Option<Instant>,
}

impl RetryBudget {
    /// The size of the bucket: when a server dies, most clients can retry all calls that it had.
    const MOST: f64 = 1_000.0;
    /// In the long run, retries add at most a fifth to the load.
    const PER_CALL: f64 = 0.2;
    /// A client that makes a call now and then can retry it.
    const PER_SECOND: f64 = 10.0;

    pub(crate) fn new() -> Self {
        Self { tokens: Self::MOST, filled_at: None }
    }

    /// Adds the share of a call that was made.
    pub(crate) fn deposit(&mut self) {
        self.tokens = (self.tokens + Self::PER_CALL).min(Self::MOST);
    }

    /// Takes a token for a retry.
    ///
    /// # Errors
    /// The time at which there will be a token.
    pub(crate) fn withdraw(&mut self, now: Instant) -> Result<(), Instant> {
        let filled_at = self.filled_at.unwrap_or(now);
        let since = now.saturating_duration_since(filled_at);
        self.tokens = (self.tokens + since.as_secs_f64() * Self::PER_SECOND).min(Self::MOST);
        // Threads that block come with an older clock, and must not count the same time twice.
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

    fn policy() -> CallPolicy {
        CallPolicy { idempotent: false, retries: 3, fail_fast: false, key: None }
    }

    #[test]
    fn only_safe_transient_failures_are_retried() {
        use ErrorKind::{
            Disconnected, Failed, Overloaded, Panicked, ShuttingDown, UnknownFunction,
        };
        let once = policy();
        let again = CallPolicy { idempotent: true, ..policy() };
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
            assert_eq!(once.allows_retry(&error, 0, false), plainly, "{kind:?} {ran:?}");
            assert_eq!(again.allows_retry(&error, 0, false), safely, "{kind:?} {ran:?}");
            assert_eq!(once.allows_retry(&error, 0, true), safely, "{kind:?} {ran:?}");
            assert!(!again.allows_retry(&error, 3, true));
        }
    }

    #[test]
    fn aborted_call_is_retried_if_idempotent() {
        let error = RpcError::new(ErrorKind::ShuttingDown, Ran::Yes, "");
        assert!(CallPolicy { idempotent: true, ..policy() }.allows_retry(&error, 0, false));
        assert!(!policy().allows_retry(&error, 0, false));
        assert!(!policy().allows_retry(&error, 0, true), "the server keeps that outcome");
    }

    #[test]
    fn backoff_doubles_with_jitter() {
        let mut random = fastrand::Rng::with_seed(7);
        let left = Duration::from_secs(60);
        for (retries, longest) in
            [(0, 10), (1, 20), (2, 40), (7, 1_000), (40, 1_000), (u32::MAX, 1_000)]
        {
            let longest = Duration::from_millis(longest);
            let pauses: Vec<_> =
                (0..100).map(|_| backoff(retries, None, left, &mut random).unwrap()).collect();
            assert!(
                pauses.iter().all(|pause| (longest / 2..=longest).contains(pause)),
                "{pauses:?}"
            );
            assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        }
        let asked = Duration::from_secs(3);
        assert!(
            (asked..=asked * 5 / 4).contains(&backoff(0, Some(asked), left, &mut random).unwrap())
        );
        assert!(backoff(7, Some(Duration::ZERO), left, &mut random).unwrap() >= MAX_BACKOFF / 2);
    }

    #[test]
    fn retries_go_on_until_no_time_is_left() {
        let mut random = fastrand::Rng::with_seed(7);
        for asked in [None, Some(Duration::from_millis(100))] {
            let least = asked.unwrap_or(INITIAL_BACKOFF / 2);
            let (mut left, mut retries) = (Duration::from_secs(2), 0);
            while let Some(pause) = backoff(retries, asked, left, &mut random) {
                assert!((least..=left).contains(&pause), "{pause:?} of {left:?}");
                left -= pause;
                retries += 1;
            }
            assert!(left <= least, "{left:?} after {retries} with {asked:?}");
            assert!(retries < 60, "{retries}");
        }
    }

    #[test]
    fn spent_budget_states_the_next_time() {
        let now = Instant::now();
        let mut budget = RetryBudget::new();
        for _ in 0..1_000 {
            budget.withdraw(now).unwrap();
        }
        let next = budget.withdraw(now).unwrap_err();
        assert!(next > now && next <= now + Duration::from_millis(101), "{:?}", next - now);
        budget.withdraw(next + Duration::from_micros(1)).unwrap();
        // Calls add tokens, without time passing.
        let now = next + Duration::from_micros(2);
        budget.withdraw(now).unwrap_err();
        (0..5).for_each(|_| budget.deposit());
        budget.withdraw(now).unwrap();
        // A thread with an older clock does not count the same time twice.
        let older = now + Duration::from_millis(1);
        let now = older + Duration::from_millis(100);
        while budget.withdraw(now).is_ok() {}
        for _ in 0..10 {
            budget.withdraw(older).unwrap_err();
            budget.withdraw(now).unwrap_err();
        }
        // The bucket does not overflow, however long nothing happens.
        let later = now + Duration::from_secs(86_400);
        assert_eq!((0..2_000).filter(|_| budget.withdraw(later).is_ok()).count(), 1_000);
    }
}
