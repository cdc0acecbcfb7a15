//! The egress side of a listener. It packs messages into batches, and sends what the quota of the
//! peer allows.

use crate::{
    protocol::{batch::Batch, control::Capabilities},
    server::{
        completion::Ticket,
        dispatch::{Outbound, StreamPart},
        quota::EgressQuota,
        sessions::Sessions,
    },
    transport::Listener,
    util::{doublings::Doublings, yield_budget::YieldBudget},
};

#[cfg(feature = "metrics")]
use crate::server::metrics::DROPPED;

/// The egress side of one listener, which sends its messages.
#[derive(Debug, Default)]
pub(crate) struct Egress {
    /// The number of replies that were dropped, because their peer has gone or does not read.
    dropped: Doublings,
}

impl Egress {
    /// Sends all messages. Consecutive small messages to the same client are sent as one batch, if
    /// the client accepts batches.
    ///
    /// If a message of a stream is dropped, so is what follows of that stream, because its caller
    /// must not miss an item unawares. Returns the requests of these.
    pub(crate) fn send(
        &mut self,
        messages: &mut Vec<Outbound>,
        sessions: &Sessions,
        quota: &mut EgressQuota,
        listener: &mut dyn Listener,
        budget: &mut YieldBudget,
    ) -> Vec<Ticket> {
        let mut messages = messages.drain(..).peekable();
        let (mut streams, mut lost) = (Vec::new(), Vec::new());
        while let Some(Outbound { reply_to, mut body, alone, stream }) = messages.next() {
            let mut has_items = false;
            if let Some(part) = stream {
                if lost.contains(&part.ticket) {
                    continue;
                }
                streams.push(part.ticket);
                has_items = part.has_items();
            }
            let mut count = 1;
            let joins = |next: &Outbound| {
                next.reply_to == reply_to
                    && Batch::suits(next.body.len())
                    && !next.alone
                    && next.stream.as_ref().is_none_or(|part| !lost.contains(&part.ticket))
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
                    has_items |= next.stream.as_ref().is_some_and(StreamPart::has_items);
                    streams.extend(next.stream.map(|part| part.ticket));
                }
                count = batch.count().into();
                body = batch.take().unwrap_or_default();
            }
            budget.add(0, body.len());
            let (peer, size) = (reply_to.peer(), body.len());
            // The capacity of items was held since they came, and goes on with the body.
            let lease =
                if has_items { Some(quota.hold(peer, size)) } else { quota.acquire(peer, size) };
            if !lease.is_some_and(|lease| listener.send(reply_to, body, lease)) {
                lost.append(&mut streams);
                self.count_dropped(count);
            }
            streams.clear();
        }
        lost
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
