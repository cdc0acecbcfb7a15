//! The streams of a call: the one that it returns, the one that it passes, and their options. This
//! code does no I/O and reads no clock.

use std::time::{Duration, Instant};

use crate::{
    error::{ErrorKind, Ran, RpcError},
    inflow::Inflow,
    protocol::stream::{Credit, items},
    util::deadline::deadline_after,
};

/// The most bytes of items that wait to be handed to the socket, whatever credit the server gives.
const MAX_UNSENT: usize = 256 * 1024;

/// The options of the streams of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamOptions {
    /// The longest silence of the server, while it is its turn.
    pub(crate) idle: Duration,
    /// The time by which the call must have ended. `None` if there is none.
    pub(crate) deadline: Option<Instant>,
}

/// The streams of a call.
#[derive(Debug)]
pub(crate) struct Flows {
    pub(crate) options: StreamOptions,
    /// The stream that the call returns.
    pub(crate) inbox: Option<Inflow>,
    /// The stream that the call passes as an argument.
    pub(crate) outbox: Option<Outbox>,
}

/// The stream that a call passes as an argument, on its way to the server.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(super) credit: Credit,
    /// The bytes that wait in the queue of a link.
    pub(super) unsent: usize,
    /// The number of items that were taken from the stream.
    pub(super) taken: u64,
    /// True once the caller may have polled its stream in this try.
    pub(super) begun: bool,
    /// True once the stream has ended.
    pub(super) ended: bool,
}

impl Outbox {
    /// Returns the bytes of items that may be added now. One item may exceed them.
    pub(super) fn room(&self) -> usize {
        if self.ended { 0 } else { self.credit.left().min(MAX_UNSENT.saturating_sub(self.unsent)) }
    }

    /// Returns true if the caller is to be woken for more items.
    pub(super) fn wants_items(&self) -> bool {
        !self.ended && self.credit.left() > 0 && self.unsent <= MAX_UNSENT / 2
    }

    /// Notes a message of `len` bytes that was added, with some items, or with the end.
    pub(super) fn note_added(&mut self, len: usize, items: Option<u16>) {
        self.unsent += len;
        match items {
            Some(items) => {
                self.credit.spend(len);
                self.taken += u64::from(items);
            }
            None => self.ended = true,
        }
    }
}

impl Flows {
    /// Begins a try. Returns the first credit of the server, for the stream that the call returns.
    pub(super) fn begin(&mut self) -> Option<u64> {
        if let Some(outbox) = &mut self.outbox {
            *outbox = Outbox::default();
        }
        self.inbox.as_mut().map(Inflow::begin)
    }

    /// Returns the time by which the server must be heard of next.
    pub(crate) fn next_deadline(&self, now: Instant) -> Instant {
        let next = deadline_after(now, self.options.idle);
        match self.options.deadline {
            // All items were sent: what is left is an ordinary call, which has its own time.
            Some(deadline) if self.inbox.is_none() && self.is_sent() => deadline,
            deadline => deadline.map_or(next, |deadline| deadline.min(next)),
        }
    }

    fn is_sent(&self) -> bool {
        self.outbox.as_ref().is_none_or(|outbox| outbox.ended)
    }

    /// Returns true if the caller is waited for, who has to take an item or to add one, and not the
    /// server.
    pub(super) fn await_caller(&self) -> bool {
        self.inbox.as_ref().is_some_and(Inflow::excuses_sender)
            || self.outbox.as_ref().is_some_and(|outbox| outbox.room() > 0)
    }

    /// Tells of the items that went to or fro. A call that has any is not begun again.
    pub(super) fn progress(&self) -> Option<String> {
        let received = self.inbox.as_ref().map_or(0, Inflow::received);
        let taken = self.outbox.as_ref().map_or(0, |outbox| outbox.taken);
        let begun = self.outbox.as_ref().is_some_and(|outbox| outbox.begun);
        let had_come = |count| format!("{} had come", items(count));
        let were_taken = |count| format!("{} of its argument had been taken", items(count));
        match (received, taken) {
            (0, 0) if begun => Some("the stream of its argument had begun".to_owned()),
            (0, 0) => None,
            (received, 0) => Some(had_come(received)),
            (0, taken) => Some(were_taken(taken)),
            (received, taken) => Some(format!("{}, and {}", had_come(received), were_taken(taken))),
        }
    }

    /// Makes the error of a call whose server was silent for too long.
    pub(super) fn silence(&self) -> RpcError {
        let received = self.inbox.as_ref().map_or(0, Inflow::received);
        let (ran, when) = match &self.outbox {
            Some(Outbox { taken: 0, ended: false, .. }) if received == 0 => {
                (Ran::Maybe, "before the server took the first item".to_owned())
            }
            Some(Outbox { taken, ended: false, .. }) => {
                (Ran::Yes, format!("after {}, before the server took the next one", items(*taken)))
            }
            Some(Outbox { taken: 0, .. }) if self.inbox.is_none() => {
                (Ran::Maybe, "before the reply came".to_owned())
            }
            Some(Outbox { taken, .. }) if self.inbox.is_none() => {
                (Ran::Yes, format!("after {}, before the reply came", items(*taken)))
            }
            _ if received == 0 => (Ran::Maybe, "before the first item came".to_owned()),
            _ => (Ran::Yes, format!("after {}, before the next one came", items(received))),
        };
        RpcError::new(ErrorKind::DeadlineExceeded, ran, format!("the time ran out {when}"))
    }

    /// Returns the bytes that wait in the queue of a link.
    pub(super) fn unsent(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.unsent)
    }

    /// Returns the window of the stream that the call returns.
    pub(super) fn window(&self) -> usize {
        self.inbox.as_ref().map_or(0, Inflow::window)
    }
}
