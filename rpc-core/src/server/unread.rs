//! What the peers of a listener were sent and have not read: counted from when an engine takes a
//! message to when it has written it. A peer that reads slowly, or never, so holds a bounded part
//! of memory, and stalls nobody. No I/O.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::HashMap;

use crate::shares::{Part, Share, Total};

/// What an unread message holds beside its bytes, at least: about what an engine allocates for one.
const OVERHEAD: usize = 512;
/// How many messages may be unread, however small they are. One peer can have half of them, and a
/// few more: less than the 100,000 that the zeromq crate queues for one, so that what that does
/// with more never happens.
const MAX_MESSAGES: usize = 131_072;
/// How many peers are remembered before the first look at which of them have read everything.
const FIRST_LOOK: usize = 64;

/// The bound of what all peers of a server may leave unread, in bytes: at least two of the largest
/// messages, so that one fits with whatever it counts beside its bytes.
pub(crate) fn total(bytes: usize, max_message_size: usize) -> Arc<Total> {
    let largest = max_message_size.saturating_mul(2).saturating_add(OVERHEAD);
    let limit = bytes.max(largest);
    // All of it is kept back: what is not read does not come back by itself.
    Arc::new(Total::new(limit, limit))
}

/// The peers of one listener that may have something unread.
#[derive(Debug)]
pub(crate) struct Unread {
    total: Arc<Total>,
    peers: HashMap<Bytes, Arc<Share>>,
    /// With so many peers, those that have read everything are forgotten: not every engine tells of
    /// each that goes.
    next_look: usize,
}

impl Unread {
    pub(crate) fn new(total: &Arc<Total>) -> Self {
        Self { total: Arc::clone(total), peers: HashMap::default(), next_look: FIRST_LOOK }
    }

    /// The right to send `peer` a message of `size` bytes. `None` if it has too much unread.
    pub(crate) fn take(&mut self, peer: &Bytes, size: usize) -> Option<Part> {
        let overhead = OVERHEAD.max(self.total.limit() / MAX_MESSAGES);
        let amount = size.saturating_add(overhead);
        if let Some(share) = self.peers.get(peer) {
            return share.take(amount);
        }
        if self.peers.len() >= self.next_look {
            self.peers.retain(|_, share| share.held() > 0);
            self.next_look = FIRST_LOOK.max(2 * self.peers.len());
        }
        // A slice of what the peer sent would keep all of that.
        let share =
            self.peers.entry(Bytes::copy_from_slice(peer)).or_insert(Share::new(&self.total));
        share.take(amount)
    }

    /// What is still queued for it goes when the engine drops it.
    pub(crate) fn peer_gone(&mut self, peer: &Bytes) {
        self.peers.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Bytes = Bytes::from_static(b"a");
    const B: Bytes = Bytes::from_static(b"b");

    #[test]
    fn a_peer_that_never_reads_gets_its_part_and_others_theirs() {
        let total = total(1_000_000, 1_000);
        let mut unread = Unread::new(&total);
        let stuck: Vec<_> = std::iter::from_fn(|| unread.take(&A, 488)).collect();
        assert_eq!(stuck.len(), 501, "half, and the one that passed it");
        assert!(unread.take(&A, 488).is_none());
        let other = unread.take(&B, 488);
        assert!(other.is_some());
        drop(stuck);
        assert!(unread.take(&A, 488).is_some(), "it has read");
        drop(other);
        assert_eq!(total.taken(), 0);
    }

    #[test]
    fn no_peer_fills_the_engines_queue_with_small_messages() {
        let total = total(1 << 40, 1_000);
        let mut unread = Unread::new(&total);
        let all: Vec<_> = std::iter::from_fn(|| unread.take(&A, 0)).collect();
        assert!(all.len() < 100_000, "{}", all.len());
    }

    #[test]
    fn the_largest_message_can_always_be_sent_to_who_has_read_everything() {
        for max_message_size in [0, 1_000, 1 << 40, usize::MAX] {
            let total = total(0, max_message_size);
            let mut unread = Unread::new(&total);
            assert!(unread.take(&A, max_message_size).is_some(), "{max_message_size}");
        }
    }

    #[test]
    fn peers_that_vanish_unnoticed_are_forgotten_once_they_hold_nothing() {
        let total = total(1_000_000, 1_000);
        let mut unread = Unread::new(&total);
        let stays = unread.take(&A, 1);
        for n in 0..10_000_u32 {
            drop(unread.take(&Bytes::copy_from_slice(&n.to_be_bytes()), 1));
        }
        assert!(unread.peers.len() <= FIRST_LOOK, "{}", unread.peers.len());
        assert!(unread.peers.contains_key(&A));
        unread.peer_gone(&A);
        assert_eq!(total.taken(), 513, "it is still queued");
        drop(stays);
        assert_eq!(total.taken(), 0);
    }
}
