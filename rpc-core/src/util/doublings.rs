//! A count of events that somebody else causes, of which few are logged.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts events. The first is worth a line of the log, and then each one that doubles their number.
#[derive(Debug, Default)]
pub(crate) struct Doublings(AtomicU64);

impl Doublings {
    /// Counts events. Returns their number so far, if it is worth a line.
    pub(crate) fn add(&self, count: u64) -> Option<u64> {
        let before = self.0.fetch_add(count, Ordering::Relaxed);
        let now = before.saturating_add(count);
        (now.checked_ilog2() > before.checked_ilog2()).then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_doubling_is_worth_a_line() {
        let events = Doublings::default();
        let lines: Vec<_> = (0..1_000).filter_map(|_| events.add(1)).collect();
        assert_eq!(lines, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
        assert_eq!(events.add(0), None);
        assert_eq!(events.add(5_000), Some(6_000));
    }
}
