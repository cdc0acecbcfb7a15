//! The egress side of a listener. It packs messages into batches, and applies the egress quota,
//! which limits the messages that wait until peers read them.
//!
//! A message counts from the moment when it is handed to the transport until it is written. So a
//! peer that reads slowly, or never, holds a bounded part of the memory, and does not delay other
//! peers.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::HashMap;

use crate::{
    peer::PeerId,
    protocol::{batch::Batch, control::Capabilities},
    server::{dispatch::Outbound, sessions::Sessions},
    transport::Listener,
    util::{
        doublings::Doublings,
        fair_share::{Lease, Share, SharedLimit},
        yield_budget::YieldBudget,
    },
};

#[cfg(feature = "metrics")]
use crate::server::metrics::DROPPED;

/// The minimum overhead of an unread message, in bytes, which counts in addition to its body. It is
/// about the amount that an engine allocates for a message.
const OVERHEAD: usize = 512;
/// The maximum number of unread messages, however small they are. One peer can hold half of them
/// and a few more. This is less than the 100,000 messages that the zeromq crate queues for a peer,
/// so that its queue is never full.
const MAX_MESSAGES: usize = 131_072;
/// The number of peers at which the peers without unread messages are removed for the first time.
const FIRST_SWEEP: usize = 64;

/// Makes the limit that all listeners of a server share, in bytes. It has capacity for at least two
/// messages of the largest size, so that one always fits with its overhead.
pub(crate) fn limit(bytes: usize, max_message_size: usize) -> Arc<SharedLimit> {
    let largest = max_message_size.saturating_mul(2).saturating_add(OVERHEAD);
    let limit = bytes.max(largest);
    // All of it is reserve: the capacity that a peer holds is not released until the peer reads.
    Arc::new(SharedLimit::new(limit, limit))
}

/// The egress quota: the keys or peers of one listener that may have unread messages, and their
/// shares.
#[derive(Debug)]
struct EgressQuota {
    limit: Arc<SharedLimit>,
    shares: HashMap<Bytes, Arc<Share>>,
    /// The number of shares at which those without unread messages are removed. This is
    /// necessary because not every engine reports each peer that disconnects.
    next_sweep: usize,
}

impl EgressQuota {
    fn new(limit: Arc<SharedLimit>) -> Self {
        Self { limit, shares: HashMap::default(), next_sweep: FIRST_SWEEP }
    }

    /// Acquires the capacity to send a body of `size` bytes to `peer`. Returns `None` if the peer
    /// has too many unread bytes.
    fn acquire(&mut self, peer: &PeerId, size: usize) -> Option<Lease> {
        let overhead = OVERHEAD.max(self.limit.limit() / MAX_MESSAGES);
        let amount = size.saturating_add(overhead);
        let holder = peer.holder();
        if let Some(share) = self.shares.get(holder) {
            return share.acquire(amount);
        }
        if self.shares.len() >= self.next_sweep {
            self.shares.retain(|_, share| share.held() > 0);
            self.next_sweep = FIRST_SWEEP.max(2 * self.shares.len());
        }
        let share =
            self.shares.entry(Bytes::copy_from_slice(holder)).or_insert(Share::new(&self.limit));
        share.acquire(amount)
    }
}

/// The egress side of one listener, which sends its messages.
#[derive(Debug)]
pub(crate) struct Egress {
    quota: EgressQuota,
    /// The number of replies that were dropped, because their peer has gone or does not read.
    dropped: Doublings,
}

impl Egress {
    pub(crate) fn new(limit: Arc<SharedLimit>) -> Self {
        Self { quota: EgressQuota::new(limit), dropped: Doublings::default() }
    }

    /// Removes the share of a peer that has disconnected, unless other connections of its key use
    /// it, or messages are still queued: the transport drops those later.
    pub(crate) fn handle_peer_gone(&mut self, peer: &PeerId) {
        let holder = peer.holder();
        if self.quota.shares.get(holder).is_some_and(|share| share.held() == 0) {
            self.quota.shares.remove(holder);
        }
    }

    /// Sends all messages. Consecutive small messages to the same client are sent as one batch, if
    /// the client accepts batches.
    pub(crate) fn send(
        &mut self,
        messages: &mut Vec<Outbound>,
        sessions: &Sessions,
        listener: &mut dyn Listener,
        budget: &mut YieldBudget,
    ) {
        let mut messages = messages.drain(..).peekable();
        while let Some(Outbound { reply_to, mut body, alone }) = messages.next() {
            let mut count = 1;
            let joins = |next: &Outbound| {
                next.reply_to == reply_to && Batch::suits(next.body.len()) && !next.alone
            };
            if Batch::suits(body.len())
                && !alone
                && messages.peek().is_some_and(joins)
                && sessions.capabilities(&reply_to).contains(Capabilities::BATCHES)
            {
                let mut batch = Batch::default();
                batch.begin(body.len(), messages.len()).extend_from_slice(&body);
                while let Some(next) =
                    messages.next_if(|next| joins(next) && batch.has_room(next.body.len()))
                {
                    batch.begin(next.body.len(), 0).extend_from_slice(&next.body);
                }
                count = batch.count().into();
                body = batch.take().unwrap_or_default();
            }
            budget.add(0, body.len());
            let lease = self.quota.acquire(reply_to.peer(), body.len());
            if !lease.is_some_and(|lease| listener.send(reply_to, body, lease)) {
                self.count_dropped(count);
            }
        }
    }

    /// Counts dropped replies, and logs few of them.
    fn count_dropped(&mut self, count: u64) {
        #[cfg(feature = "metrics")]
        metrics::counter!(DROPPED).increment(count);
        if let Some(dropped) = self.dropped.add(count) {
            tracing::warn!(dropped, "replies were dropped: their peer has gone, or does not read");
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
        let limit = limit(1_000_000, 1_000);
        let mut quota = EgressQuota::new(Arc::clone(&limit));
        let stuck: Vec<_> = std::iter::from_fn(|| quota.acquire(&peer("a"), 488)).collect();
        assert_eq!(stuck.len(), 501, "half of the limit, and the message that exceeded it");
        assert!(quota.acquire(&peer("a"), 488).is_none());
        let other = quota.acquire(&peer("b"), 488);
        assert!(other.is_some());
        drop(stuck);
        assert!(quota.acquire(&peer("a"), 488).is_some(), "the peer has read its messages");
        drop(other);
        assert_eq!(limit.taken(), 0);
    }

    #[test]
    fn small_messages_do_not_fill_engine_queue() {
        let mut quota = EgressQuota::new(limit(1 << 40, 1_000));
        let all: Vec<_> = std::iter::from_fn(|| quota.acquire(&peer("a"), 0)).collect();
        assert!(all.len() < 100_000, "{}", all.len());
    }

    #[test]
    fn largest_message_always_fits() {
        for max_message_size in [0, 1_000, 1 << 40, usize::MAX] {
            let mut quota = EgressQuota::new(limit(0, max_message_size));
            let lease = quota.acquire(&peer("a"), max_message_size);
            assert!(lease.is_some(), "{max_message_size}");
        }
    }

    #[test]
    fn peers_without_unread_messages_are_removed() {
        let limit = limit(1_000_000, 1_000);
        let mut egress = Egress::new(Arc::clone(&limit));
        let stays = egress.quota.acquire(&peer("a"), 1);
        for n in 0..10_000_u32 {
            let other = PeerId::unverified(Bytes::copy_from_slice(&n.to_be_bytes()));
            drop(egress.quota.acquire(&other, 1));
        }
        assert!(egress.quota.shares.len() <= FIRST_SWEEP, "{}", egress.quota.shares.len());
        let has_share = |egress: &Egress| egress.quota.shares.contains_key(peer("a").holder());
        egress.handle_peer_gone(&peer("a"));
        assert!(has_share(&egress));
        assert_eq!(limit.taken(), 513, "the message is still queued");
        drop(stays);
        assert_eq!(limit.taken(), 0);
        egress.handle_peer_gone(&peer("a"));
        assert!(!has_share(&egress));
    }
}
