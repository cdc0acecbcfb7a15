//! The way out of a listener: batches, and a quota of what peers have not read.
//!
//! A message counts from when the transport takes it to when it was written. A peer that reads slowly,
//! or never, so holds a bounded part of the memory, and delays nobody.

use std::sync::Arc;

use foldhash::HashMap;

use crate::{
    peer::PeerId,
    protocol::{batch::Batch, control::Capabilities},
    server::{dispatch::Outbound, sessions::Sessions},
    transport::Listener,
    util::{
        fair_share::{Lease, Share, SharedLimit},
        yield_budget::YieldBudget,
    },
};

/// The minimum that an unread message counts besides its bytes: about what an engine allocates for it.
const OVERHEAD: usize = 512;
/// The number of messages that may be unread, however small they are. One peer can have half of them,
/// and a few more: less than the 100,000 that the zeromq crate queues for a peer, so that its queue is
/// never full.
const MAX_MESSAGES: usize = 131_072;
/// The number of peers after which those that have read everything are first removed.
const FIRST_SWEEP: usize = 64;

/// Makes the limit that all listeners of a server share, in bytes. It admits at least two of the
/// largest messages, so that one fits with its overhead.
pub(crate) fn limit(bytes: usize, max_message_size: usize) -> Arc<SharedLimit> {
    let largest = max_message_size.saturating_mul(2).saturating_add(OVERHEAD);
    let limit = bytes.max(largest);
    // All of it is reserve: what a peer does not read does not come back by itself.
    Arc::new(SharedLimit::new(limit, limit))
}

/// The peers of one listener that may have something unread.
#[derive(Debug)]
struct EgressQuota {
    limit: Arc<SharedLimit>,
    peers: HashMap<PeerId, Arc<Share>>,
    /// The number of peers at which those that have read everything are removed: not every engine
    /// reports each peer that disconnects.
    next_sweep: usize,
}

impl EgressQuota {
    fn new(limit: Arc<SharedLimit>) -> Self {
        Self { limit, peers: HashMap::default(), next_sweep: FIRST_SWEEP }
    }

    /// Acquires the right to send `peer` a body of `size` bytes. Returns `None` if the peer has too
    /// much unread.
    fn acquire(&mut self, peer: &PeerId, size: usize) -> Option<Lease> {
        let overhead = OVERHEAD.max(self.limit.limit() / MAX_MESSAGES);
        let amount = size.saturating_add(overhead);
        if let Some(share) = self.peers.get(peer) {
            return share.acquire(amount);
        }
        if self.peers.len() >= self.next_sweep {
            self.peers.retain(|_, share| share.held() > 0);
            self.next_sweep = FIRST_SWEEP.max(2 * self.peers.len());
        }
        let share = self.peers.entry(peer.detached()).or_insert(Share::new(&self.limit));
        share.acquire(amount)
    }
}

/// Sends the messages of one listener.
#[derive(Debug)]
pub(crate) struct Egress {
    quota: EgressQuota,
    /// The number of replies that found no peer, or one that does not read.
    dropped: u64,
}

impl Egress {
    pub(crate) fn new(limit: Arc<SharedLimit>) -> Self {
        Self { quota: EgressQuota::new(limit), dropped: 0 }
    }

    /// Forgets a peer. The transport drops what is still queued for it.
    pub(crate) fn handle_peer_gone(&mut self, peer: &PeerId) {
        self.quota.peers.remove(peer);
    }

    /// Sends all messages. Consecutive small messages to one client travel together, if the client
    /// takes batches.
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

    /// Logs the first dropped reply, and then each doubling of their number.
    fn count_dropped(&mut self, count: u64) {
        let before = self.dropped;
        self.dropped += count;
        if self.dropped.ilog2() != before.checked_ilog2().unwrap_or(u32::MAX) {
            tracing::warn!(
                dropped = self.dropped,
                "replies were dropped: their peer has gone, or does not read"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn peer(name: &'static str) -> PeerId {
        PeerId::new(Bytes::from_static(name.as_bytes()))
    }

    #[test]
    fn peer_that_never_reads_leaves_room_for_others() {
        let limit = limit(1_000_000, 1_000);
        let mut quota = EgressQuota::new(Arc::clone(&limit));
        let stuck: Vec<_> = std::iter::from_fn(|| quota.acquire(&peer("a"), 488)).collect();
        assert_eq!(stuck.len(), 501, "half, and the one that passed it");
        assert!(quota.acquire(&peer("a"), 488).is_none());
        let other = quota.acquire(&peer("b"), 488);
        assert!(other.is_some());
        drop(stuck);
        assert!(quota.acquire(&peer("a"), 488).is_some(), "it has read");
        drop(other);
        assert_eq!(limit.taken(), 0);
    }

    #[test]
    fn small_messages_do_not_fill_the_engines_queue() {
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
    fn peers_that_hold_nothing_are_removed() {
        let limit = limit(1_000_000, 1_000);
        let mut egress = Egress::new(Arc::clone(&limit));
        let stays = egress.quota.acquire(&peer("a"), 1);
        for n in 0..10_000_u32 {
            let other = PeerId::new(Bytes::copy_from_slice(&n.to_be_bytes()));
            drop(egress.quota.acquire(&other, 1));
        }
        assert!(egress.quota.peers.len() <= FIRST_SWEEP, "{}", egress.quota.peers.len());
        assert!(egress.quota.peers.contains_key(&peer("a")));
        egress.handle_peer_gone(&peer("a"));
        assert_eq!(limit.taken(), 513, "it is still queued");
        drop(stays);
        assert_eq!(limit.taken(), 0);
    }
}
