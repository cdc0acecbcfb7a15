//! The messages of servers on their way from a link to the calls.

use std::time::Instant;

use bytes::Bytes;

use super::ClientCore;
use crate::{
    client::balancer::LinkId,
    error::RpcError,
    protocol::{
        MsgId,
        stream::{self, Chunk, ItemsHead},
    },
    util::wakers::Wakers,
};

/// The number of replies that are handed to their calls each time the lock is taken. It is so small
/// that another thread that wants the lock does not go to sleep.
const REPLIES_PER_LOCK: usize = 32;

/// A message that a server has sent to a call.
#[derive(Debug)]
pub(super) struct Received {
    id: MsgId,
    /// The number of items. 0 for a reply.
    items: u32,
    /// The place of the first item in the body.
    values_at: u32,
    body: Bytes,
}

impl Received {
    pub(super) fn reply(id: MsgId, body: Bytes) -> Self {
        Self { id, items: 0, values_at: 0, body }
    }

    pub(super) fn items(head: ItemsHead, body: Bytes) -> Option<Self> {
        let values_at = u32::try_from(head.values_at).ok()?;
        Some(Self { id: head.id, items: head.count, values_at, body: stream::own(body) })
    }
}

impl ClientCore {
    /// Ends calls with their replies, and adds items to streams. The lock is released now and then,
    /// because callers on other threads want it as well.
    pub(super) fn handle_replies(
        &self,
        link: LinkId,
        replies: impl Iterator<Item = Received>,
        wakers: &mut Wakers,
    ) {
        let mut replies = replies.peekable();
        while replies.peek().is_some() {
            let some = replies.by_ref().take(REPLIES_PER_LOCK);
            let mut state = self.lock();
            for Received { id, items, values_at, body } in some {
                if items == 0 {
                    state.calls.handle_reply(link, id, body, wakers);
                } else {
                    let head = ItemsHead { id, values_at: values_at as usize, count: items };
                    let chunk = Chunk::new(body, head);
                    let limit = self.transport.max_message_size;
                    state.calls.handle_items(link, id, chunk, limit, Instant::now(), wakers);
                }
            }
            if state.calls.await_room() {
                state.calls.fill_links(Instant::now(), wakers);
            }
            drop(state);
            wakers.wake();
        }
    }

    pub(super) fn handle_refusal(&self, link: LinkId, id: MsgId, error: RpcError) {
        self.with_calls(|calls, wakers| {
            calls.handle_refusal(link, id, error, Instant::now(), wakers);
        });
    }
}
