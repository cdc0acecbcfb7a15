//! The items of streams: those that arrive on links and that callers take, and those that callers
//! pass as arguments.

use std::{task::Waker, time::Instant};

use bytes::Bytes;

use super::{CallState, Calls, Next};
use crate::{
    client::balancer::LinkId,
    error::{ErrorKind, Ran, RpcError},
    protocol::{
        MsgId,
        stream::{Chunk, MESSAGE_BYTES},
    },
    util::wakers::Wakers,
};

/// The part of the stream among its arguments that a call may pass now.
#[derive(Debug)]
pub(crate) struct Room {
    /// The bytes of items. One item may exceed them.
    pub(crate) bytes: usize,
    /// True if nothing of the stream waits for the socket.
    pub(crate) is_idle: bool,
    /// The most bytes that a message may have.
    pub(crate) limit: usize,
}

/// A message with items of the stream that a call passes as an argument.
#[derive(Debug)]
pub(crate) struct Passing {
    pub(crate) body: Bytes,
    /// The number of items, or `None` for the message after the last one.
    pub(crate) items: Option<u16>,
}

impl Calls {
    /// Adds items to the call that they belong to. Items for a call that has ended, or that returns
    /// no stream, are ignored. `limit` is that of a message with one item, in bytes.
    pub(crate) fn handle_items(
        &mut self,
        link: LinkId,
        id: MsgId,
        chunk: Chunk,
        limit: usize,
        now: Instant,
        wakers: &mut Wakers,
    ) {
        let Some(found) = self.balancer.find(link) else { return };
        found.unresponsive = false;
        let slot = self.slots.get_mut(id.0).filter(|slot| slot.is_sent_on(link));
        let Some(slot) = slot else { return };
        let Some(flows) = &mut slot.call.flows else { return };
        let Some(inbox) = &mut flows.inbox else { return };
        let size = chunk.len();
        let error = if size > limit.max(2 * MESSAGE_BYTES) {
            let message = format!(
                "an item is in a message of {size} bytes, and the client's max_message_size is {limit}"
            );
            RpcError::new(ErrorKind::TooLarge { size, limit }, Ran::Yes, message)
        } else if inbox.push(chunk) {
            slot.call.deadline = flows.next_deadline(now);
            return slot.wake(wakers);
        } else {
            let message = "the server has sent more items than it was given credit for";
            RpcError::new(ErrorKind::Protocol, Ran::Yes, message)
        };
        self.end_faulty(link, id, error, wakers);
    }

    /// Adds credit to the call that it belongs to. Credit for a call that has ended, or that passes
    /// no stream, is ignored.
    pub(crate) fn handle_credit(
        &mut self,
        link: LinkId,
        id: MsgId,
        bytes: u64,
        now: Instant,
        wakers: &mut Wakers,
    ) {
        let slot = self.slots.get_mut(id.0).filter(|slot| slot.is_sent_on(link));
        let Some(slot) = slot else { return };
        let Some(flows) = &mut slot.call.flows else { return };
        let Some(outbox) = &mut flows.outbox else { return };
        if outbox.credit.grant(bytes).is_ok() {
            slot.call.deadline = flows.next_deadline(now);
            slot.wake(wakers);
        } else {
            let message = "the server has given more credit than there can be";
            let error = RpcError::new(ErrorKind::Protocol, Ran::Yes, message);
            self.end_faulty(link, id, error, wakers);
        }
    }

    /// Ends a call whose server breaks the rules.
    fn end_faulty(&mut self, link: LinkId, id: MsgId, error: RpcError, wakers: &mut Wakers) {
        let Some(slot) = self.slots.get_mut(id.0) else { return };
        let (kind, bytes) = (slot.call.kind, slot.charged.unwrap_or(0));
        self.abandon(link, id, kind, bytes, wakers);
        self.fail(id, error, wakers);
    }

    /// Takes the next items of a stream, or its end after the last ones. Otherwise, `waker` will be
    /// woken once there is either. See [`poll_outcome`](Self::poll_outcome) for `old`.
    pub(crate) fn poll_items(
        &mut self,
        id: MsgId,
        waker: &Waker,
        old: &mut Option<Waker>,
        now: Instant,
        wakers: &mut Wakers,
    ) -> Option<Next> {
        let slot = self.slots.get_mut(id.0)?;
        let Some(inbox) = slot.call.flows.as_mut().and_then(|flows| flows.inbox.as_mut()) else {
            return self.poll_outcome(id, waker, old).map(Next::End);
        };
        let had_items = inbox.has_items();
        let chunk = inbox.next();
        if let CallState::Sent(link) = slot.state
            && let Some(granted) = inbox.grant(self.capacity.spare())
            && let Some(link) = self.balancer.find(link)
        {
            self.capacity.windows += granted.growth;
            link.credits.push_back((id, granted.bytes));
            link.wake_sender(wakers);
        }
        // From now on, its caller waits for the server.
        if had_items
            && chunk.is_none()
            && let Some(flows) = &slot.call.flows
        {
            slot.call.deadline = flows.next_deadline(now);
        }
        match chunk {
            Some(chunk) => Some(Next::Items(chunk)),
            None => self.poll_outcome(id, waker, old).map(Next::End),
        }
    }

    /// Returns what a call may pass now. `None` if it may pass nothing.
    pub(crate) fn room(&mut self, id: MsgId) -> Option<Room> {
        let slot = self.slots.get_mut(id.0)?;
        let CallState::Sent(link) = slot.state else { return None };
        let outbox = slot.outbox()?;
        let (bytes, is_idle) = (outbox.room(), outbox.unsent == 0);
        // The caller polls its stream now, and what that returns is not there a second time.
        outbox.begun |= bytes > 0;
        let limit = self.balancer.find(link)?.peer.max_message_size;
        (bytes > 0).then_some(Room { bytes, is_idle, limit })
    }

    /// Queues items that a call passes.
    pub(crate) fn pass(&mut self, id: MsgId, passing: Passing, now: Instant, wakers: &mut Wakers) {
        let Some(slot) = self.slots.get_mut(id.0) else { return };
        // If the call has ended meanwhile, nobody takes them.
        let CallState::Sent(link) = slot.state else { return };
        let Some(link) = self.balancer.find(link) else { return };
        let Some(flows) = &mut slot.call.flows else { return };
        let Some(outbox) = &mut flows.outbox else { return };
        let Passing { body, items } = passing;
        outbox.note_added(body.len(), items);
        self.capacity.bytes += body.len();
        link.items.push_back((id, body));
        link.wake_sender(wakers);
        slot.call.deadline = flows.next_deadline(now);
    }
}
