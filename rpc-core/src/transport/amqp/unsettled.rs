//! The deliveries of a channel that are not settled yet, and how to settle them with few frames.
//! No I/O, no clock.

use std::collections::BTreeSet;

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was answered, or has run: the broker forgets it.
    Done,
    /// Nobody understands it: the broker moves it to the dead-letter queue.
    Rejected,
    /// It was not begun: the broker delivers it to another server.
    Returned,
}

/// The deliveries of a channel, by the numbers that the broker gives them.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// The deliveries without a verdict. The prefetch bounds their number.
    running: BTreeSet<u64>,
    /// The verdicts that the broker was not told yet.
    decided: Vec<(u64, Verdict)>,
}

/// The frames that tell the broker about deliveries, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settlement {
    pub(super) rejected: Vec<u64>,
    pub(super) returned: Vec<u64>,
    /// This delivery and all before it that are still unsettled are done.
    pub(super) done_up_to: Option<u64>,
    /// Further deliveries that are done.
    pub(super) done: Vec<u64>,
}

impl Unsettled {
    /// Adds a delivery.
    pub(super) fn add(&mut self, number: u64) {
        self.running.insert(number);
    }

    /// Notes the verdict on a delivery.
    pub(super) fn decide(&mut self, number: u64, verdict: Verdict) {
        if self.running.remove(&number) {
            self.decided.push((number, verdict));
        }
    }

    /// Returns what the broker has to be told. `None` if nothing was decided since the last time.
    pub(super) fn settle(&mut self) -> Option<Settlement> {
        if self.decided.is_empty() {
            return None;
        }
        let first_running = self.running.first().copied().unwrap_or(u64::MAX);
        let mut settlement = Settlement::default();
        for (number, verdict) in self.decided.drain(..) {
            match verdict {
                Verdict::Rejected => settlement.rejected.push(number),
                Verdict::Returned => settlement.returned.push(number),
                Verdict::Done if number < first_running => {
                    settlement.done_up_to = settlement.done_up_to.max(Some(number));
                }
                // A function that runs for long must not keep the broker from delivering more.
                Verdict::Done => settlement.done.push(number),
            }
        }
        Some(settlement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(count: u64) -> Unsettled {
        let mut unsettled = Unsettled::default();
        (1..=count).for_each(|number| unsettled.add(number));
        unsettled
    }

    #[test]
    fn deliveries_in_order_are_settled_by_one_frame() {
        let mut unsettled = delivered(4);
        assert_eq!(unsettled.settle(), None);
        for number in [2, 1, 3] {
            unsettled.decide(number, Verdict::Done);
        }
        let expected = Settlement { done_up_to: Some(3), ..Settlement::default() };
        assert_eq!(unsettled.settle(), Some(expected));
        unsettled.decide(3, Verdict::Done);
        assert_eq!(unsettled.settle(), None, "it is settled already");
    }

    #[test]
    fn long_function_holds_up_no_others() {
        let mut unsettled = delivered(5);
        for (number, verdict) in
            [(2, Verdict::Done), (3, Verdict::Rejected), (4, Verdict::Returned)]
        {
            unsettled.decide(number, verdict);
        }
        let expected =
            Settlement { rejected: vec![3], returned: vec![4], done_up_to: None, done: vec![2] };
        assert_eq!(unsettled.settle(), Some(expected));
        unsettled.decide(1, Verdict::Done);
        let expected = Settlement { done_up_to: Some(1), ..Settlement::default() };
        assert_eq!(unsettled.settle(), Some(expected), "the broker knows 2 to 4 no more");
        unsettled.decide(5, Verdict::Rejected);
        let expected = Settlement { rejected: vec![5], ..Settlement::default() };
        assert_eq!(unsettled.settle(), Some(expected));
    }
}
