//! A limit that many holders share in such a way that none can take all of it. No I/O, no clock.
//!
//! A part of the limit is a reserve. A holder may take from the reserve only while it holds no more
//! than what is free. This is the rule of dynamic thresholds by Choudhury and Hahne (IEEE/ACM
//! Transactions on Networking, 1998).
//!
//! So a single greedy holder gets everything but the reserve. The next holder gets half of the
//! reserve, and then holds as much as is free. What the first holder releases goes to the second,
//! because the first still holds more than is free. No holder needs a limit of its own.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A limit, in units of the user's choice, and the amount of it that is taken.
#[derive(Debug)]
pub(crate) struct SharedLimit {
    limit: usize,
    reserve: usize,
    taken: AtomicUsize,
}

/// Returns the usual reserve, for limits of which everything that is taken is released after some
/// time anyway. It is a sixteenth of the limit: small enough that a single holder has nearly the
/// whole limit, and large enough for a newcomer to begin with.
pub(crate) fn reserve_of(limit: usize) -> usize {
    limit.div_ceil(16)
}

impl SharedLimit {
    pub(crate) fn new(limit: usize, reserve: usize) -> Self {
        Self { limit, reserve, taken: AtomicUsize::new(0) }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// Takes `amount` for a holder that already has `held` of the limit. Returns false, and takes
    /// nothing, if the holder may not have so much.
    pub(crate) fn acquire(&self, held: usize, amount: usize) -> bool {
        let more = |taken| {
            let free = self.limit.saturating_sub(taken);
            is_allowed(held, amount, free, self.reserve).then_some(taken + amount)
        };
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }

    /// Takes `amount`, even if that exceeds the limit.
    fn take(&self, amount: usize) {
        self.taken.fetch_add(amount, Ordering::AcqRel);
    }

    /// Releases an amount that was acquired.
    pub(crate) fn release(&self, amount: usize) {
        self.taken.fetch_sub(amount, Ordering::AcqRel);
    }
}

/// Returns true if a holder that has `held` may take `amount` of the `free` rest of a limit with
/// this `reserve`.
pub(crate) fn is_allowed(held: usize, amount: usize, free: usize, reserve: usize) -> bool {
    amount <= free && (free - amount >= reserve || held <= free)
}

/// The holdings of one holder, for amounts that are released on other threads.
#[derive(Debug)]
pub(crate) struct Share {
    limit: Arc<SharedLimit>,
    held: AtomicUsize,
}

/// An amount that a holder has taken. Dropping the lease releases it.
#[derive(Debug)]
pub(crate) struct Lease {
    share: Arc<Share>,
    amount: usize,
}

impl Share {
    pub(crate) fn new(limit: &Arc<SharedLimit>) -> Arc<Self> {
        Arc::new(Self { limit: Arc::clone(limit), held: AtomicUsize::new(0) })
    }

    /// Takes `amount`. Returns `None`, and takes nothing, if the holder may not have so much.
    pub(crate) fn acquire(self: &Arc<Self>, amount: usize) -> Option<Lease> {
        let acquired = self.limit.acquire(self.held(), amount);
        acquired.then(|| {
            self.held.fetch_add(amount, Ordering::AcqRel);
            Lease { share: Arc::clone(self), amount }
        })
    }

    /// Takes `amount`, even if the holder may not have so much: for what exists already.
    pub(crate) fn hold(self: &Arc<Self>, amount: usize) -> Lease {
        self.limit.take(amount);
        self.held.fetch_add(amount, Ordering::AcqRel);
        Lease { share: Arc::clone(self), amount }
    }

    /// Returns true if the holder holds no more than a quarter of what is free. A part of what it
    /// has that stops then leaves capacity for the others.
    pub(crate) fn has_room(&self) -> bool {
        let free = self.limit.limit.saturating_sub(self.limit.taken());
        self.held() <= free / 4
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.share.held.fetch_sub(self.amount, Ordering::AcqRel);
        self.share.limit.release(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets `holders` acquire one unit each in turn until none gets more, and returns their
    /// holdings.
    fn fill(limit: &SharedLimit, holders: usize) -> Vec<usize> {
        let mut held = vec![0; holders];
        loop {
            let before = held.clone();
            for held in &mut held {
                *held += usize::from(limit.acquire(*held, 1));
            }
            if held == before {
                return held;
            }
        }
    }

    #[test]
    fn greedy_holders_leave_a_share_for_a_newcomer() {
        for (holders, share) in [(1, 600), (2, 400), (3, 300), (11, 100)] {
            let limit = SharedLimit::new(1_200, 1_200);
            for held in fill(&limit, holders) {
                assert!(held.abs_diff(share) <= 1, "{held} of {share}");
            }
            let newcomer = fill(&limit, 1)[0];
            assert!(newcomer.abs_diff(share / 2) <= 1, "{newcomer} of {share}");
        }
    }

    #[test]
    fn single_holder_yields_to_a_newcomer() {
        let limit = SharedLimit::new(1_600, reserve_of(1_600));
        let first = fill(&limit, 1)[0];
        assert_eq!(first, 1_500);
        let second = fill(&limit, 1)[0];
        assert_eq!(second, 51, "half of the reserve, and one");
        // What the first holder releases goes to the second holder, and not back to the first.
        limit.release(40);
        assert!(!limit.acquire(first - 40, 1));
        assert!(limit.acquire(second, 1));
    }

    #[test]
    fn holder_of_nothing_may_take_all_that_is_free() {
        let limit = SharedLimit::new(100, 100);
        assert!(limit.acquire(0, 100), "the whole limit is free");
        assert!(!limit.acquire(0, 1));
        limit.release(100);
        assert!(!limit.acquire(0, 101));
        assert!(limit.acquire(0, 60));
        assert!(!limit.acquire(60, 1), "it holds more than is free");
        assert!(limit.acquire(0, 40));
        assert_eq!(limit.taken(), 100);
    }

    #[test]
    fn dropped_lease_is_free_again() {
        let limit = Arc::new(SharedLimit::new(10, 10));
        let share = Share::new(&limit);
        let first = share.acquire(5);
        let second = share.acquire(5);
        assert_eq!((share.held(), limit.taken()), (10, 10));
        assert!(share.acquire(1).is_none());
        drop((first, second));
        assert_eq!((share.held(), limit.taken()), (0, 0));
    }

    #[test]
    fn what_exists_is_held_in_any_case() {
        let limit = Arc::new(SharedLimit::new(100, 100));
        let share = Share::new(&limit);
        assert!(share.has_room());
        let first = share.hold(20);
        assert!(share.has_room(), "80 are free");
        let second = share.hold(1_000);
        assert!(!share.has_room() && share.acquire(1).is_none() && !limit.acquire(0, 1));
        drop(second);
        assert!(share.has_room() && share.acquire(1).is_some());
        drop(first);
        assert_eq!((share.held(), limit.taken()), (0, 0));
    }
}
