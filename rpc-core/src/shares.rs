//! A bounded total that peers share so that none can take it all, without a number for each peer.
//! No I/O.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// So much there is, of requests or of bytes, and so much of it is taken.
///
/// A part of it is kept back: of that, a peer gets more only as long as it holds no more than what
/// is free (the dynamic thresholds of Choudhury and Hahne). So one that is greedy gets all but that
/// part, and half of that part is there for whoever comes next, who then holds back the others
/// until it has as much as is free.
#[derive(Debug)]
pub(crate) struct Total {
    limit: usize,
    kept: usize,
    taken: AtomicUsize,
}

/// How much of `limit` is kept back from those who have much, where what is taken comes back by
/// itself: so little that one peer alone has nearly all, so much that a newcomer has enough to
/// begin with.
pub(crate) fn kept_of(limit: usize) -> usize {
    limit.div_ceil(16)
}

impl Total {
    pub(crate) fn new(limit: usize, kept: usize) -> Self {
        Self { limit, kept, taken: AtomicUsize::new(0) }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// Takes `amount` for a peer that holds `held` of it. `false` if that is more than it may have.
    pub(crate) fn take(&self, held: usize, amount: usize) -> bool {
        let more = |taken| {
            let free = self.limit - taken;
            may_have(held, amount, free, self.kept).then_some(taken + amount)
        };
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }

    /// Gives back what was taken.
    pub(crate) fn give_back(&self, amount: usize) {
        self.taken.fetch_sub(amount, Ordering::AcqRel);
    }
}

/// Whether a peer that holds `held` may have `amount` of what is `free`, if so much is kept back.
pub(crate) fn may_have(held: usize, amount: usize, free: usize, kept: usize) -> bool {
    amount <= free && (free - amount >= kept || held <= free)
}

/// What one peer holds of a total, for things that end on other threads.
#[derive(Debug)]
pub(crate) struct Share {
    total: Arc<Total>,
    held: AtomicUsize,
}

/// A part of a total that a peer holds until this is dropped.
#[derive(Debug)]
pub(crate) struct Part {
    share: Arc<Share>,
    amount: usize,
}

impl Share {
    pub(crate) fn new(total: &Arc<Total>) -> Arc<Self> {
        Arc::new(Self { total: Arc::clone(total), held: AtomicUsize::new(0) })
    }

    /// `None` if the peer may not have so much.
    pub(crate) fn take(self: &Arc<Self>, amount: usize) -> Option<Part> {
        let taken = self.total.take(self.held(), amount);
        taken.then(|| {
            self.held.fetch_add(amount, Ordering::AcqRel);
            Part { share: Arc::clone(self), amount }
        })
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.share.held.fetch_sub(self.amount, Ordering::AcqRel);
        self.share.total.give_back(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much each of `peers` gets of 1,200 if all take one after the other until none gets more.
    fn greedy(total: &Total, peers: usize) -> Vec<usize> {
        let mut held = vec![0; peers];
        loop {
            let before = held.clone();
            for held in &mut held {
                *held += usize::from(total.take(*held, 1));
            }
            if held == before {
                return held;
            }
        }
    }

    #[test]
    fn who_is_greedy_gets_a_fair_part_and_a_newcomer_finds_room() {
        for (peers, part) in [(1, 600), (2, 400), (3, 300), (11, 100)] {
            let total = Total::new(1_200, 1_200);
            for held in greedy(&total, peers) {
                assert!(held.abs_diff(part) <= 1, "{held} of {part}");
            }
            let newcomer = greedy(&total, 1)[0];
            assert!(newcomer.abs_diff(part / 2) <= 1, "{newcomer} of {part}");
        }
    }

    #[test]
    fn one_alone_has_nearly_all_and_yields_to_who_comes_next() {
        let total = Total::new(1_600, kept_of(1_600));
        let first = greedy(&total, 1)[0];
        assert_eq!(first, 1_500);
        let second = greedy(&total, 1)[0];
        assert_eq!(second, 51, "half of what was kept, and one");
        // What the first gives back goes to the second, and not to the first again.
        total.give_back(40);
        assert!(!total.take(first - 40, 1));
        assert!(total.take(second, 1));
    }

    #[test]
    fn who_holds_nothing_gets_whatever_is_free_and_nobody_more() {
        let total = Total::new(100, 100);
        assert!(total.take(0, 100), "the largest possible one");
        assert!(!total.take(0, 1));
        total.give_back(100);
        assert!(!total.take(0, 101));
        assert!(total.take(0, 60));
        assert!(!total.take(60, 1), "it holds more than is free");
        assert!(total.take(0, 40));
        assert_eq!(total.taken(), 100);
    }

    #[test]
    fn a_part_that_is_dropped_is_free_again() {
        let total = Arc::new(Total::new(10, 10));
        let share = Share::new(&total);
        let first = share.take(5);
        let second = share.take(5);
        assert_eq!((share.held(), total.taken()), (10, 10));
        assert!(share.take(1).is_none());
        drop((first, second));
        assert_eq!((share.held(), total.taken()), (0, 0));
    }
}
