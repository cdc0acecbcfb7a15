//! A queue that serves its senders in turn. The items of one sender are first in, first out.
//!
//! So a sender with a long line delays only itself, and not the others. The queue is bounded, and
//! its capacity is shared by the rule of [`fair_share`](crate::util::fair_share): the reserve is
//! for senders whose line is no longer than the capacity that is free. The queue does no locking;
//! `server/workers.rs` puts it behind a lock.

use std::{collections::VecDeque, hash::Hash};

use foldhash::HashMap;

use crate::util::fair_share::{is_allowed, reserve_of};

/// The number of empty lines that are kept, in addition to one for each waiting item. A sender that
/// comes back finds its line, and needs no allocation.
const EMPTY_LINES: usize = 64;

/// The number of items for which an empty line keeps memory.
const IDLE_CAPACITY: usize = 64;
/// The number of removed items whose places may stay in a line, in addition to one for each item.
const GAPS: usize = 8;

/// Items that wait, in one line for each sender `K`.
#[derive(Debug)]
pub(crate) struct FairQueue<K, T> {
    lines: HashMap<K, Line<K, T>>,
    /// The senders whose lines are served in turn, each once.
    turns: VecDeque<K>,
    /// Copies a sender for keys that outlive its items, so that these keep no other memory alive.
    detach: fn(&K) -> K,
    /// The number of items in all lines.
    waiting: usize,
    limit: usize,
    next_number: u64,
}

/// The items of one sender.
#[derive(Debug)]
struct Line<K, T> {
    sender: K,
    /// The items in the order of their numbers. `None` stands for an item that was removed.
    items: VecDeque<(u64, Option<T>)>,
    /// The number of items that were not removed.
    waiting: usize,
    /// True while the sender is in `turns`.
    has_turn: bool,
}

/// The position of an item that waits, for [`FairQueue::remove`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Position<K> {
    sender: K,
    number: u64,
}

impl<K: Clone + Eq + Hash, T> FairQueue<K, T> {
    pub(crate) fn new(limit: usize, detach: fn(&K) -> K) -> Self {
        let (lines, turns) = (HashMap::default(), VecDeque::new());
        Self { lines, turns, detach, waiting: 0, limit, next_number: 0 }
    }

    /// The number of items that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// Appends an item to the line of `sender`, or returns it if there is no capacity for it. The
    /// queue may exceed its limit by `extra` items.
    pub(crate) fn push(&mut self, sender: K, item: T, extra: usize) -> Result<Position<K>, T> {
        let line = self.lines.get_mut(&sender);
        let held = line.as_ref().map_or(0, |line| line.waiting);
        let free = (self.limit.saturating_add(extra)).saturating_sub(self.waiting);
        if !is_allowed(held, 1, free, reserve_of(self.limit)) {
            return Err(item);
        }
        let line = if let Some(line) = line {
            line
        } else {
            let sender = (self.detach)(&sender);
            let new = Line::new(sender.clone());
            self.lines.entry(sender).or_insert(new)
        };
        if !std::mem::replace(&mut line.has_turn, true) {
            self.turns.push_back(line.sender.clone());
        }
        let number = self.next_number;
        line.items.push_back((number, Some(item)));
        line.waiting += 1;
        self.next_number += 1;
        self.waiting += 1;
        Ok(Position { sender, number })
    }

    /// Removes and returns the first item of the sender whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        loop {
            let sender = self.turns.pop_front()?;
            let Some(line) = self.lines.get_mut(&sender) else { continue };
            let item = line.pop();
            line.has_turn = line.waiting > 0;
            if line.has_turn {
                self.turns.push_back(sender);
            }
            // A line without items is passed over: they were all removed before its turn.
            if item.is_some() {
                self.waiting -= 1;
                self.drop_empty_lines();
                return item;
            }
        }
    }

    /// Removes an item that waits. Returns `None` if it does not wait any more.
    pub(crate) fn remove(&mut self, position: &Position<K>) -> Option<T> {
        let line = self.lines.get_mut(&position.sender)?;
        let item = line.remove(position.number)?;
        self.waiting -= 1;
        self.drop_empty_lines();
        Some(item)
    }

    /// Drops the empty lines if there are many of them.
    fn drop_empty_lines(&mut self) {
        if self.lines.len() > 2 * self.waiting + EMPTY_LINES {
            self.lines.retain(|_, line| line.waiting > 0);
            self.turns.retain(|sender| self.lines.contains_key(sender));
        }
    }
}

impl<K, T> Line<K, T> {
    fn new(sender: K) -> Self {
        Self { sender, items: VecDeque::new(), waiting: 0, has_turn: false }
    }

    fn pop(&mut self) -> Option<T> {
        let item = std::iter::from_fn(|| self.items.pop_front()).find_map(|(_, item)| item)?;
        self.waiting -= 1;
        if self.waiting == 0 && self.items.capacity() > IDLE_CAPACITY {
            self.items = VecDeque::new();
        }
        Some(item)
    }

    fn remove(&mut self, number: u64) -> Option<T> {
        let index = self.items.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let item = self.items[index].1.take()?;
        self.waiting -= 1;
        // While nothing is popped, the gaps are closed here when they are the greater part.
        if self.items.len() > 2 * self.waiting + GAPS {
            self.items.retain(|(_, item)| item.is_some());
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Tested = FairQueue<u32, u32>;

    fn new(limit: usize) -> Tested {
        FairQueue::new(limit, u32::clone)
    }

    fn push(queue: &mut Tested, sender: u32, item: u32) -> Position<u32> {
        queue.push(sender, item, 0).unwrap()
    }

    fn drain(queue: &mut Tested) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn items_of_a_sender_wait_in_order() {
        let mut queue = new(2);
        push(&mut queue, 0, 1);
        push(&mut queue, 0, 2);
        assert_eq!(queue.push(0, 3, 0), Err(3), "the queue is full");
        assert_eq!(queue.pop(), Some(1));
        push(&mut queue, 0, 3);
        assert_eq!(drain(&mut queue), [2, 3]);
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn limit_may_be_exceeded_by_extra_items() {
        let mut queue = new(0);
        queue.push(0, 1, 0).unwrap_err();
        queue.push(0, 1, 1).unwrap();
        queue.push(0, 2, 1).unwrap_err();
        new(usize::MAX).push(0, 1, 1).unwrap();
    }

    #[test]
    fn senders_take_turns() {
        let mut queue = new(100);
        for (sender, item) in [(0, 1), (0, 2), (0, 3), (1, 4), (0, 5), (2, 6), (1, 7)] {
            push(&mut queue, sender, item);
        }
        assert_eq!(drain(&mut queue), [1, 4, 6, 2, 7, 3, 5]);
        assert!(queue.turns.is_empty());
    }

    #[test]
    fn greedy_sender_spares_the_reserve() {
        let mut queue = new(10);
        let greedy = (0..10).take_while(|item| queue.push(0, *item, 0).is_ok()).count();
        assert_eq!(greedy, 9, "all but the reserve");
        push(&mut queue, 1, 100);
        assert_eq!(queue.pop(), Some(0));
        assert_eq!(queue.pop(), Some(100), "it is the turn of the other sender");
    }

    #[test]
    fn removed_item_frees_capacity() {
        let mut queue = new(2);
        let first = push(&mut queue, 0, 1);
        let second = push(&mut queue, 0, 2);
        assert_eq!(queue.remove(&first), Some(1));
        assert_eq!(queue.remove(&first), None);
        push(&mut queue, 0, 3);
        assert_eq!(drain(&mut queue), [2, 3]);
        assert_eq!(queue.remove(&second), None);
    }

    #[test]
    fn sender_has_one_turn_after_removals() {
        let mut queue = new(100);
        for item in 0..10 {
            let position = push(&mut queue, 0, item);
            queue.remove(&position).unwrap();
        }
        for (sender, item) in [(0, 1), (1, 2), (0, 3), (1, 4)] {
            push(&mut queue, sender, item);
        }
        assert_eq!(drain(&mut queue), [1, 2, 3, 4]);
    }

    #[test]
    fn removed_items_leave_no_memory() {
        let mut queue = new(10);
        push(&mut queue, 0, 0);
        for item in 1..10_000 {
            let position = push(&mut queue, 0, item);
            queue.remove(&position).unwrap();
        }
        assert!(queue.lines[&0].items.len() <= GAPS + 3);
        assert_eq!(drain(&mut queue), [0]);
    }

    #[test]
    fn lines_of_absent_senders_are_dropped() {
        let mut queue = new(10);
        for n in 0..10_000 {
            let position = push(&mut queue, n, n);
            if n % 2 == 0 {
                queue.remove(&position).unwrap();
            } else {
                // The turn of the sender whose item was removed is passed over.
                assert_eq!(queue.pop(), Some(n));
            }
        }
        assert_eq!(queue.len(), 0);
        assert!(queue.lines.len() <= EMPTY_LINES, "{}", queue.lines.len());
        assert!(queue.turns.len() <= queue.lines.len());
    }
}
