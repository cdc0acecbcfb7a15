//! The streams of calls, between their callers and their links.

use std::{
    task::{Poll, Waker},
    time::Instant,
};

use super::{ClientCore, admit, forked};
use crate::{
    client::{
        balancer::LinkId,
        calls::{
            Next,
            streams::{Passing, Room},
        },
    },
    error::Ran,
    protocol::MsgId,
    util::wakers::Wakers,
};

impl ClientCore {
    /// Takes the next items of a stream, or its end.
    pub(crate) fn poll_items(&self, id: MsgId, waker: &Waker) -> Poll<Next> {
        let (mut old, mut wakers) = (None, Wakers::default());
        let end = || Poll::Ready(Next::End(Err(forked(Ran::Maybe))));
        let Some(mut state) = self.lock_here() else { return end() };
        let next = state.calls.poll_items(id, waker, &mut old, Instant::now(), &mut wakers);
        if next.is_some() {
            admit(state);
        } else {
            drop(state);
        }
        wakers.wake();
        match next {
            Some(next) => Poll::Ready(next),
            None if self.home.is_elsewhere() => end(),
            None => Poll::Pending,
        }
    }

    /// Returns what a call may pass now. `None` if it may pass nothing.
    pub(crate) fn room(&self, id: MsgId) -> Option<Room> {
        self.lock_here()?.calls.room(id)
    }

    /// Queues items that a call passes as an argument.
    pub(crate) fn pass(&self, id: MsgId, passing: Passing) {
        self.with_calls(|calls, wakers| calls.pass(id, passing, Instant::now(), wakers));
    }

    pub(super) fn handle_credit(&self, link: LinkId, id: MsgId, bytes: u64) {
        self.with_calls(|calls, wakers| {
            calls.handle_credit(link, id, bytes, Instant::now(), wakers);
        });
    }
}
