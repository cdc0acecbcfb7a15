//! The limits of a key.

use std::time::{Duration, Instant};

use crate::usage::{Account, Usage};

/// The amount of calls that a key may make, over all its connections. See
/// [`Access::limit`](super::Access::limit).
///
/// Nothing is limited unless it is set. Calls beyond a limit end with
/// [`Overloaded`](crate::ErrorKind::Overloaded) and are not run; clients of this library try them
/// again within their deadlines. Notifications beyond it are dropped.
///
/// ```
/// use rpc_core::KeyLimits;
///
/// let limits = KeyLimits::new().max_in_flight(100).calls_per_second(1_000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyLimits {
    max_in_flight: Option<usize>,
    max_bytes_in_flight: Option<usize>,
    calls_per_second: Option<u32>,
}

/// A limit that a call would exceed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// The call exceeds it together with others.
    Now {
        /// The limit, and what there is.
        reason: String,
        /// The time after which it is worth trying again, if that is known.
        retry_after: Option<Duration>,
    },
    /// The request alone has more bytes than the limit.
    Always { limit: usize },
}

impl KeyLimits {
    /// Makes limits of which none is set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of calls that may be in flight at once, at least 1: those that run, and those
    /// that wait. [Inline](crate::Execution::Inline) functions do not count, but are refused as well
    /// while there are so many others.
    #[must_use]
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = Some(calls.max(1));
        self
    }

    /// Sets the number of bytes that the requests in flight may have together. A request that is
    /// larger is refused as [`TooLarge`](crate::ErrorKind::TooLarge).
    #[must_use]
    pub fn max_bytes_in_flight(mut self, bytes: usize) -> Self {
        self.max_bytes_in_flight = Some(bytes);
        self
    }

    /// Sets the number of calls in a second, at least 1, of all functions. After a second without
    /// calls, so many may come at once. The protocol's own functions do not count.
    #[must_use]
    pub fn calls_per_second(mut self, calls: u32) -> Self {
        self.calls_per_second = Some(calls.max(1));
        self
    }

    /// Sets the limit with this name, as a file has it. Returns false if there is none.
    pub(super) fn set(&mut self, name: &str, value: u32) -> bool {
        let size = usize::try_from(value).unwrap_or(usize::MAX);
        *self = match name {
            "max_in_flight" => self.max_in_flight(size),
            "max_bytes_in_flight" => self.max_bytes_in_flight(size),
            "calls_per_second" => self.calls_per_second(value),
            _ => return false,
        };
        true
    }

    /// Checks whether the key of `account` may send a request of `bytes`, and notes the call for
    /// its rate.
    pub(super) fn check(
        &self,
        account: &Account,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Exceeded> {
        let Usage { requests, bytes: held } = account.usage();
        let exceeded = |reason| Exceeded::Now { reason, retry_after: None };
        if let Some(limit) = self.max_in_flight.filter(|limit| requests >= *limit) {
            let reason = format!("{requests} requests of this key are under way");
            return Err(exceeded(format!("{reason}, and its limit (max_in_flight) is {limit}")));
        }
        if let Some(limit) = self.max_bytes_in_flight.filter(|limit| bytes > *limit) {
            return Err(Exceeded::Always { limit });
        }
        let total = held.saturating_add(bytes);
        if let Some(limit) = self.max_bytes_in_flight.filter(|limit| total > *limit) {
            let reason =
                format!("with this one, {total} bytes of requests of this key are under way");
            return Err(exceeded(format!(
                "{reason}, and its limit (max_bytes_in_flight) is {limit}"
            )));
        }
        let Some(rate) = self.calls_per_second else { return Ok(()) };
        account.take_turn(rate, now).map_err(|wait| Exceeded::Now {
            reason: format!("this key may make {rate} calls a second (calls_per_second)"),
            retry_after: Some(wait),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_named_when_it_is_exceeded() {
        let now = Instant::now();
        let account = Account::new(&[1; 32]);
        account.add(Usage { requests: 2, bytes: 50 });
        let limits = KeyLimits::new();
        assert_eq!(limits.check(&account, usize::MAX, now), Ok(()));
        let enough = limits.max_in_flight(3).max_bytes_in_flight(60).calls_per_second(1);
        assert_eq!(enough.check(&account, 10, now), Ok(()));
        for (limits, reason) in [
            (
                enough.max_in_flight(2),
                "2 requests of this key are under way, and its limit (max_in_flight) is 2",
            ),
            (
                enough.max_bytes_in_flight(59),
                "with this one, 60 bytes of requests of this key are under way, and its limit \
                 (max_bytes_in_flight) is 59",
            ),
            (enough, "this key may make 1 calls a second (calls_per_second)"),
        ] {
            let Err(Exceeded::Now { reason: found, .. }) = limits.check(&account, 10, now) else {
                panic!("{reason}")
            };
            assert_eq!(found, reason);
        }
        let Err(Exceeded::Now { retry_after, .. }) = enough.check(&account, 0, now) else {
            panic!("its rate is used up")
        };
        assert_eq!(retry_after, Some(Duration::from_secs(1)));
        assert_eq!(enough.check(&account, 61, now), Err(Exceeded::Always { limit: 60 }));
        assert_eq!(
            limits.max_in_flight(0).calls_per_second(0).check(&Account::new(&[2; 32]), 0, now),
            Ok(())
        );
    }
}
