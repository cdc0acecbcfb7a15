//! The deliveries of a channel that are not settled yet, and how to settle them with few frames.
//! No I/O, no clock.

use std::collections::VecDeque;

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

/// The deliveries of a channel. The broker numbers them from 1 on.
#[derive(Debug)]
pub(super) struct Unsettled {
    /// The number of the first delivery in `deliveries`.
    first: u64,
    /// The verdict on each delivery. [`Some`] until the broker was told. A delivery of which it was
    /// told alone stays as `Told` until all before it are settled.
    deliveries: VecDeque<Progress>,
    /// The deliveries with a new verdict.
    decided: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Running,
    Decided(Verdict),
    Told,
}

/// What the broker is to be told, in this order.
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
    pub(super) fn new() -> Self {
        Self { first: 1, deliveries: VecDeque::new(), decided: Vec::new() }
    }

    /// Adds the delivery with the next number.
    pub(super) fn add(&mut self, number: u64) {
        debug_assert_eq!(number, self.first + self.deliveries.len() as u64);
        self.deliveries.push_back(Progress::Running);
    }

    /// Notes the verdict on a delivery.
    pub(super) fn decide(&mut self, number: u64, verdict: Verdict) {
        if let Some(progress @ Progress::Running) = self.get_mut(number) {
            *progress = Progress::Decided(verdict);
            self.decided.push(number);
        }
    }

    /// Returns what the broker has to be told. `None` if nothing was decided since the last time.
    pub(super) fn settle(&mut self) -> Option<Settlement> {
        if self.decided.is_empty() {
            return None;
        }
        let mut settlement = Settlement::default();
        let decided = std::mem::take(&mut self.decided);
        for number in &decided {
            let Some(progress) = self.get_mut(*number) else { continue };
            match *progress {
                Progress::Decided(Verdict::Rejected) => settlement.rejected.push(*number),
                Progress::Decided(Verdict::Returned) => settlement.returned.push(*number),
                _ => continue,
            }
            *progress = Progress::Told;
        }
        while let Some(progress) = self.deliveries.front()
            && *progress != Progress::Running
        {
            if *progress != Progress::Told {
                settlement.done_up_to = Some(self.first);
            }
            self.deliveries.pop_front();
            self.first += 1;
        }
        // A function that runs for long must not keep the broker from delivering further ones.
        for number in decided {
            if let Some(progress @ Progress::Decided(_)) = self.get_mut(number) {
                *progress = Progress::Told;
                settlement.done.push(number);
            }
        }
        Some(settlement)
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Progress> {
        let at = number.checked_sub(self.first)?;
        self.deliveries.get_mut(usize::try_from(at).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_in_order_are_settled_by_one_frame() {
        let mut unsettled = Unsettled::new();
        (1..=4).for_each(|number| unsettled.add(number));
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
        let mut unsettled = Unsettled::new();
        (1..=5).for_each(|number| unsettled.add(number));
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
