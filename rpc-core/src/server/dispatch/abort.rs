//! Requests that end before their functions have: by a cancel, a deadline, a lost peer, or the end
//! of the server.

use std::time::Instant;

use crate::{
    error::Ran,
    peer::PeerId,
    protocol::{
        MsgId,
        error::{Code, WireError},
    },
    server::{
        completion::Ticket,
        dispatch::{Dispatcher, Outbound},
        executor::{Execute, Started},
        requests::Owner,
    },
    transport::ReplyTo,
};

/// The reason for ending a request before its function has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abort {
    Cancelled,
    PeerGone,
    DeadlineExceeded,
    Stopped,
    /// Items, or credit for them, could not be sent.
    Unsent,
    /// The caller of a stream gave more credit than there can be.
    TooMuchCredit,
    /// The caller has sent items without credit, or after the end.
    UnexpectedItem,
    /// The caller has sent a message with items that is longer than a message may be.
    LargeItem,
    /// There is no capacity for an item that is larger than the window.
    NoCapacity,
}

impl Abort {
    /// Makes the error for the caller.
    pub(super) fn error(self, ran: Ran, started: bool) -> WireError {
        let (code, why) = match self {
            Self::Cancelled => (Code::Cancelled, "the caller cancelled"),
            Self::PeerGone => (Code::Cancelled, "the caller has gone"),
            Self::DeadlineExceeded => (Code::DeadlineExceeded, "the time ran out"),
            Self::Stopped => (Code::ShuttingDown, "the server has shut down"),
            Self::Unsent => {
                (Code::Cancelled, "items, or credit for them, could not be sent to the caller,")
            }
            Self::TooMuchCredit => (Code::BadRequest, "the caller gave too much credit"),
            Self::UnexpectedItem => {
                (Code::BadRequest, "the caller sent an item without credit, or after the end,")
            }
            Self::LargeItem => {
                (Code::BadRequest, "the caller sent items in a message that is too large")
            }
            Self::NoCapacity => (
                Code::Overloaded,
                "an item was larger than the window, and the server had no capacity for it \
                 (max_bytes_in_flight)",
            ),
        };
        let when = if started { "while the function ran" } else { "before the function started" };
        WireError::new(code, ran, format!("{why} {when}"))
    }
}

impl<E: Execute> Dispatcher<E> {
    /// Cancels a call. A function that has not started never starts. The future of an async
    /// function is dropped. A sync function that runs can notice the cancellation through its
    /// context.
    pub(super) fn cancel(
        &mut self,
        reply_to: &ReplyTo,
        id: MsgId,
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        for ticket in self.requests.find(reply_to, id) {
            self.abort(ticket, Abort::Cancelled, now, out);
        }
    }

    /// Ends the requests of a peer that has disconnected. Its notifications still run, and so do
    /// its calls with an idempotency key, unless its key was removed from the access list: then
    /// everything ends that was begun for the key.
    pub(crate) fn handle_peer_gone(&mut self, peer: &PeerId, now: Instant) {
        self.sessions.handle_peer_gone(peer);
        let tickets = if self.service.gate.admits(peer) {
            self.requests.of_peer(peer)
        } else {
            self.requests.of_holder(peer.holder())
        };
        for ticket in tickets {
            // The responses are discarded, because the peer is not connected any more.
            self.abort(ticket, Abort::PeerGone, now, &mut Vec::new());
        }
        // Its streams have ended, so that they hold nothing of it.
        self.quota.handle_peer_gone(peer);
    }

    /// Answers every request whose deadline has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Outbound>) {
        self.executor.handle_timeout(now);
        for ticket in self.requests.overdue(now) {
            self.abort(ticket, Abort::DeadlineExceeded, now, out);
        }
        self.retry_stalled(now);
    }

    /// Gives up every request that is still in flight when the drain timeout has passed.
    pub(crate) fn abort_all(&mut self, now: Instant, out: &mut Vec<Outbound>) {
        for ticket in self.requests.all() {
            self.abort(ticket, Abort::Stopped, now, out);
        }
    }

    /// Ends a request before its function has ended, and answers its caller.
    pub(super) fn abort(
        &mut self,
        ticket: Ticket,
        reason: Abort,
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        let Some(request) = self.requests.get_mut(ticket) else { return };
        match &request.owner {
            Owner::Waiter { key, .. } => {
                let key = key.clone();
                return self.abort_waiter(ticket, &key, reason, now, out);
            }
            Owner::Settled => return,
            Owner::Caller(_) | Owner::Nobody { .. } | Owner::Key(_) => {}
        }
        let (context, has_begun) = (request.context.clone(), request.context.cancel());
        let Some(started) = &mut request.started else { return };
        self.executor.stop(started);
        let may_run = has_begun && !matches!(started, Started::Task(_));
        let error = reason.error(if has_begun { Ran::Yes } else { Ran::No }, has_begun);
        if let Some(outflow) = request.outflow() {
            outflow.close();
        }
        // A sync function that waits for the next item is told.
        request.end_arrivals(error.code.kind(), &error.message);
        // A sync function that has begun cannot be stopped, or only between two items. Its request
        // stays until it has ended.
        let owner = if may_run {
            self.requests.settle(ticket)
        } else {
            self.requests.remove(ticket).map(|request| request.owner)
        };
        self.log.note_end(&context, &error, now);
        if let Some(owner) = owner {
            self.tell(owner, Err(error), now, out);
        }
    }
}
