//! The use that peers make of a server. No I/O, no clock.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;

const SECOND: Duration = Duration::from_secs(1);

/// The requests that a peer, or a key, has in flight, and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
}

/// The use that one verified key makes of a server, with all its connections together.
#[derive(Debug)]
pub(crate) struct Account {
    key: Bytes,
    requests: AtomicUsize,
    bytes: AtomicUsize,
    /// The time up to which the calls so far use up the rate. See [`Account::take_turn`].
    paid_until: Mutex<Option<Instant>>,
}

#[cfg_attr(not(feature = "curve"), allow(dead_code))] // Then no key is verified.
impl Account {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self {
            key: Bytes::copy_from_slice(key),
            requests: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            paid_until: Mutex::new(None),
        }
    }

    /// Returns the bytes of the key.
    pub(crate) fn key(&self) -> &Bytes {
        &self.key
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            requests: self.requests.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// Adds a request that is in flight from now on.
    pub(crate) fn add(&self, usage: Usage) {
        self.requests.fetch_add(usage.requests, Ordering::Relaxed);
        self.bytes.fetch_add(usage.bytes, Ordering::Relaxed);
    }

    /// Subtracts a request that was added, and has ended.
    pub(crate) fn subtract(&self, usage: Usage) {
        self.requests.fetch_sub(usage.requests, Ordering::Relaxed);
        self.bytes.fetch_sub(usage.bytes, Ordering::Relaxed);
    }

    /// Notes a call of a key that may make `rate` calls a second, and as many at once if it has made
    /// none for a second. Each call uses up a part of a second (the generic cell rate algorithm,
    /// ITU-T I.371).
    ///
    /// # Errors
    /// Returns the time after which the call may be made, and notes nothing.
    pub(crate) fn take_turn(&self, rate: u32, now: Instant) -> Result<(), Duration> {
        if rate == 0 {
            return Err(SECOND);
        }
        // A poisoned lock can be ignored, because nothing panics while it is held.
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let paid = paid_until.map_or(now, |paid| paid.max(now)) + SECOND / rate;
        let too_early = (paid - now).saturating_sub(SECOND);
        if !too_early.is_zero() {
            return Err(too_early);
        }
        *paid_until = Some(paid);
        Ok(())
    }

    /// Returns true if it makes no difference whether this account or a new one goes on.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let paid_until = *self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        self.usage() == Usage::default() && paid_until.is_none_or(|paid| paid <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_of_calls_is_limited_with_a_burst_of_a_second() {
        let (account, now) = (Account::new(&[1; 32]), Instant::now());
        let taken = |now| (0..100).filter(|_| account.take_turn(10, now).is_ok()).count();
        assert!(account.is_idle(now));
        assert_eq!(taken(now), 10);
        assert_eq!(account.take_turn(10, now), Err(SECOND / 10));
        assert!(!account.is_idle(now));
        assert_eq!(taken(now + SECOND / 10), 1);
        assert_eq!(taken(now + SECOND / 2), 4);
        assert_eq!(taken(now + 60 * SECOND), 10, "what was not used is not kept");
        assert!(account.is_idle(now + 61 * SECOND));
        assert_eq!(account.take_turn(0, now), Err(SECOND));
    }

    #[test]
    fn usage_is_what_was_added_and_not_subtracted() {
        let account = Account::new(&[1; 32]);
        let request = Usage { requests: 1, bytes: 10 };
        account.add(request);
        account.add(request);
        account.subtract(request);
        assert_eq!(account.usage(), request);
        assert!(!account.is_idle(Instant::now()));
    }
}
