//! The rules for retries: the failures that allow a retry, the backoff, and the budget for the
//! retries of all calls of a client. This code does no I/O and reads no clock.

use std::time::{Duration, Instant};

use crate::{
    error::{ErrorKind, Ran, RpcError},
    protocol::metadata::Metadata,
};

/// The backoff before the first retry. It doubles with each retry, up to [`MAX_BACKOFF`]. A server
/// needs about this time to work off a burst of requests.
pub(crate) const INITIAL_BACKOFF: Duration = Duration::from_millis(10);
/// The longest backoff. A call that has been retried this often takes so long that a pause of this
/// length is hardly noticed.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// The call policy: where a call goes, and how a failure is treated.
#[derive(Debug, Clone)]
pub(crate) struct CallPolicy {
    /// True if it does no harm to run the function twice.
    pub(crate) idempotent: bool,
    /// The maximum number of retries.
    pub(crate) retries: u32,
    /// True if the call fails at once while there is no link.
    pub(crate) fail_fast: bool,
    /// The parts that few calls have. The others are smaller for it.
    pub(crate) extras: Option<Box<Extras>>,
}

/// The parts that few calls have: keys, and what their caller sends besides the arguments.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extras {
    /// The idempotency key, under which a server remembers the reply.
    pub(crate) idempotency: Option<Box<[u8]>>,
    /// The hash of the affinity key, which decides about the server.
    pub(crate) affinity: Option<u64>,
    pub(crate) metadata: Metadata,
    pub(crate) trace_parent: Option<Box<str>>,
}

impl CallPolicy {
    /// Returns the idempotency key.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.extras.as_ref()?.idempotency.as_deref()
    }

    /// Returns the hash of the affinity key.
    pub(crate) fn affinity(&self) -> Option<u64> {
        self.extras.as_ref()?.affinity
    }

    /// Returns true if the policy allows a retry of a call that failed with `error`, after
    /// `retries` earlier ones. `is_cached` is true if a server remembers the reply under the key of
    /// the call.
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

/// Returns the backoff before a retry that follows `retries` earlier ones. Returns `None` if the
/// time `left` until the deadline of the call does not allow another try.
///
/// The backoff is exponential. It is shortened by up to half at random, so that calls that failed
/// together are not retried together. It is cut to about half of the time that is left, but never
/// below the pause that the server `asked` for.
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

/// The budget for the retries of all calls of a client, so that a failing service does not get a
/// multiple of its usual load. It is a token bucket: a retry takes one token, a call adds a fifth
/// of one, and each second adds ten. A call whose server has gone brings the token for its first
/// retry: however many there are, together they are no more than the server had.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    tokens: f64,
    filled_at: Option<Instant>,
}

impl RetryBudget {
    /// The size of the bucket.
    const MOST: f64 = 1_000.0;
    /// The tokens that a call adds. In the long run, they let retries add at most a fifth to the
    /// load.
    const PER_CALL: f64 = 0.2;
    /// The tokens that a second adds. A client that makes few calls can still retry them.
    const PER_SECOND: f64 = 10.0;

    pub(crate) fn new() -> Self {
        Self { tokens: Self::MOST, filled_at: None }
    }

    /// Adds the tokens for a call that was submitted.
    pub(crate) fn deposit(&mut self) {
        self.fill(Self::PER_CALL);
    }

    /// Adds the token of a call whose server has gone, even if the bucket is full.
    pub(crate) fn grant(&mut self) {
        self.tokens += 1.0;
    }

    fn fill(&mut self, tokens: f64) {
        if self.tokens < Self::MOST {
            self.tokens = (self.tokens + tokens).min(Self::MOST);
        }
    }

    /// Takes a token for a retry.
    ///
    /// # Errors
    /// Returns the time at which there will be a token, if there is none now.
    pub(crate) fn withdraw(&mut self, now: Instant) -> Result<(), Instant> {
        let filled_at = self.filled_at.unwrap_or(now);
        let since = now.saturating_duration_since(filled_at);
        self.fill(since.as_secs_f64() * Self::PER_SECOND);
        // Threads that block on a call pass an older time. The same time must not be counted twice.
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
        CallPolicy { idempotent: false, retries: 3, fail_fast: false, extras: None }
    }

    #[test]
    fn only_safe_transient_failures_are_retried() {
        use ErrorKind::{
            Disconnected, Failed, Overloaded, Panicked, ShuttingDown, UnknownFunction,
        };
        let not_idempotent = policy();
        let idempotent = CallPolicy { idempotent: true, ..policy() };
        for (kind, ran, retried, retried_if_safe) in [
            (Disconnected, Ran::No, true, true),
            (Overloaded, Ran::No, true, true),
            (ShuttingDown, Ran::No, true, true),
            (Disconnected, Ran::Maybe, false, true),
            (Failed, Ran::Yes, false, false),
            (Panicked, Ran::Yes, false, false),
            (UnknownFunction, Ran::No, false, false),
        ] {
            let error = RpcError::new(kind, ran, "");
            let context = format!("{kind:?} {ran:?}");
            assert_eq!(not_idempotent.allows_retry(&error, 0, false), retried, "{context}");
            assert_eq!(idempotent.allows_retry(&error, 0, false), retried_if_safe, "{context}");
            assert_eq!(not_idempotent.allows_retry(&error, 0, true), retried_if_safe, "{context}");
            assert!(!idempotent.allows_retry(&error, 3, true), "no retries are left: {context}");
        }
    }

    #[test]
    fn aborted_call_is_retried_if_idempotent() {
        let error = RpcError::new(ErrorKind::ShuttingDown, Ran::Yes, "");
        assert!(CallPolicy { idempotent: true, ..policy() }.allows_retry(&error, 0, false));
        assert!(!policy().allows_retry(&error, 0, false));
        assert!(!policy().allows_retry(&error, 0, true), "the server remembers that outcome");
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
    fn retries_continue_until_no_time_is_left() {
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
        // Calls add tokens, even if no time passes.
        let now = next + Duration::from_micros(2);
        budget.withdraw(now).unwrap_err();
        (0..5).for_each(|_| budget.deposit());
        budget.withdraw(now).unwrap();
        // A thread that passes an older time does not count the same time twice.
        let older = now + Duration::from_millis(1);
        let now = older + Duration::from_millis(100);
        while budget.withdraw(now).is_ok() {}
        for _ in 0..10 {
            budget.withdraw(older).unwrap_err();
            budget.withdraw(now).unwrap_err();
        }
        // The bucket never contains more than 1,000 tokens, even after a long time.
        let later = now + Duration::from_secs(86_400);
        assert_eq!((0..2_000).filter(|_| budget.withdraw(later).is_ok()).count(), 1_000);
    }
}
