//! The egress quota: it limits the messages that wait until peers read them.
//!
//! A message counts from the moment when it is handed to the transport until it is written, and an
//! item of a stream from the moment when its message is complete. So a peer that reads slowly, or
//! never, holds a bounded part of the memory, and does not delay other peers.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::HashMap;

use crate::{
    peer::PeerId,
    util::fair_share::{Lease, Share, SharedLimit},
};

/// The minimum overhead of an unread message, in bytes, which counts in addition to its body. It is
/// about the amount that an engine allocates for a message.
const OVERHEAD: usize = 512;
/// The maximum number of unread messages, however small they are. One peer can hold half of them
/// and a few more. This is less than the 100,000 messages that the zeromq crate queues for a peer,
/// so that its queue is never full.
const MAX_MESSAGES: usize = 131_072;
/// The number of peers at which the peers without unread messages are removed for the first time.
const FIRST_SWEEP: usize = 64;

/// The limits of a server, which all its listeners share, in bytes.
#[derive(Debug, Clone)]
pub(crate) struct UnreadLimits {
    replies: Arc<SharedLimit>,
    /// That of the items of streams. It is another one, because items that a function has returned
    /// are held even if they exceed it, and replies must have their capacity nevertheless.
    items: Arc<SharedLimit>,
}

impl UnreadLimits {
    /// Makes two limits of so many `bytes`. They have capacity for at least two messages of the
    /// largest size, so that one always fits with its overhead.
    pub(crate) fn new(bytes: usize, max_message_size: usize) -> Self {
        let largest = max_message_size.saturating_mul(2).saturating_add(OVERHEAD);
        let limit = bytes.max(largest);
        // All of it is reserve: the capacity that a peer holds is not released until the peer reads.
        let limit = || Arc::new(SharedLimit::new(limit, limit));
        Self { replies: limit(), items: limit() }
    }
}

/// The shares of a peer, in what it has not read.
#[derive(Debug)]
struct Shares {
    replies: Arc<Share>,
    items: Arc<Share>,
}

impl Shares {
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.replies) > 1 || Arc::strong_count(&self.items) > 1
    }
}

/// The egress quota: the keys or peers of one listener that may have unread messages, and their
/// shares.
#[derive(Debug)]
pub(crate) struct EgressQuota {
    limits: UnreadLimits,
    overhead: usize,
    shares: HashMap<Bytes, Shares>,
    /// The number of shares at which those without unread messages are removed. This is
    /// necessary because not every engine reports each peer that disconnects.
    next_sweep: usize,
}

impl EgressQuota {
    pub(crate) fn new(limits: UnreadLimits) -> Self {
        let overhead = OVERHEAD.max(limits.replies.limit() / MAX_MESSAGES);
        Self { limits, overhead, shares: HashMap::default(), next_sweep: FIRST_SWEEP }
    }

    /// Acquires the capacity to send a reply of `size` bytes to `peer`. Returns `None` if the peer
    /// has too many unread bytes.
    pub(crate) fn acquire(&mut self, peer: &PeerId, size: usize) -> Option<Lease> {
        let amount = size.saturating_add(self.overhead);
        if let Some(shares) = self.shares.get(peer.holder()) {
            return shares.replies.acquire(amount);
        }
        self.add_shares(peer.holder()).replies.acquire(amount)
    }

    /// Takes the capacity to send a body of `size` bytes with items, even if the peer has too many
    /// unread bytes: the function was asked for them.
    pub(crate) fn hold(&mut self, peer: &PeerId, size: usize) -> Lease {
        let amount = size.saturating_add(self.overhead);
        self.items_of(peer).hold(amount)
    }

    /// Returns the share of a peer in the limit of items.
    pub(crate) fn items_of(&mut self, peer: &PeerId) -> &Arc<Share> {
        let holder = peer.holder();
        if !self.shares.contains_key(holder) {
            self.add_shares(holder);
        }
        &self.shares[holder].items
    }

    /// Returns the bytes that a message takes of its limit in addition to its body.
    pub(crate) fn overhead(&self) -> usize {
        self.overhead
    }

    #[cold]
    fn add_shares(&mut self, holder: &Bytes) -> &Shares {
        if self.shares.len() >= self.next_sweep {
            self.shares.retain(|_, shares| shares.is_used());
            self.next_sweep = FIRST_SWEEP.max(2 * self.shares.len());
        }
        let UnreadLimits { replies, items } = &self.limits;
        let shares = Shares { replies: Share::new(replies), items: Share::new(items) };
        self.shares.entry(Bytes::copy_from_slice(holder)).or_insert(shares)
    }

    /// Removes the shares of a peer that has disconnected, unless other connections of its key use
    /// them, or messages are still queued: the transport drops those later.
    pub(crate) fn handle_peer_gone(&mut self, peer: &PeerId) {
        let holder = peer.holder();
        if self.shares.get(holder).is_some_and(|shares| !shares.is_used()) {
            self.shares.remove(holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &'static str) -> PeerId {
        PeerId::unverified(Bytes::from_static(name.as_bytes()))
    }

    #[test]
    fn peer_that_never_reads_gets_half_the_limit() {
        let limits = UnreadLimits::new(1_000_000, 1_000);
        let mut quota = EgressQuota::new(limits.clone());
        let stuck: Vec<_> = std::iter::from_fn(|| quota.acquire(&peer("a"), 488)).collect();
        assert_eq!(stuck.len(), 501, "half of the limit, and the message that exceeded it");
        assert!(quota.acquire(&peer("a"), 488).is_none());
        let other = quota.acquire(&peer("b"), 488);
        assert!(other.is_some());
        drop(stuck);
        assert!(quota.acquire(&peer("a"), 488).is_some(), "the peer has read its messages");
        drop(other);
        assert_eq!(limits.replies.taken(), 0);
    }

    #[test]
    fn small_messages_do_not_fill_engine_queue() {
        let mut quota = EgressQuota::new(UnreadLimits::new(1 << 40, 1_000));
        let all: Vec<_> = std::iter::from_fn(|| quota.acquire(&peer("a"), 0)).collect();
        assert!(all.len() < 100_000, "{}", all.len());
    }

    #[test]
    fn largest_message_always_fits() {
        for max_message_size in [0, 1_000, 1 << 40, usize::MAX] {
            let mut quota = EgressQuota::new(UnreadLimits::new(0, max_message_size));
            let lease = quota.acquire(&peer("a"), max_message_size);
            assert!(lease.is_some(), "{max_message_size}");
        }
    }

    #[test]
    fn peers_without_unread_messages_are_removed() {
        let limits = UnreadLimits::new(1_000_000, 1_000);
        let mut quota = EgressQuota::new(limits.clone());
        let stays = quota.acquire(&peer("a"), 1);
        for n in 0..10_000_u32 {
            let other = PeerId::unverified(Bytes::copy_from_slice(&n.to_be_bytes()));
            drop(quota.acquire(&other, 1));
        }
        assert!(quota.shares.len() <= FIRST_SWEEP, "{}", quota.shares.len());
        let has_share = |quota: &EgressQuota| quota.shares.contains_key(peer("a").holder());
        quota.handle_peer_gone(&peer("a"));
        assert!(has_share(&quota));
        assert_eq!(limits.replies.taken(), 513, "the message is still queued");
        drop(stays);
        assert_eq!(limits.replies.taken(), 0);
        quota.handle_peer_gone(&peer("a"));
        assert!(!has_share(&quota));
    }
}
