//! One call of a client: what it is, how far it has come, and its earlier tries.

use std::{sync::Arc, task::Waker, time::Instant};

use bytes::Bytes;

use crate::{
    client::{
        balancer::LinkId,
        calls::{
            flows::{Flows, Outbox},
            retry::CallPolicy,
        },
        endpoints::EndpointState,
    },
    error::RpcError,
    function::Signature,
    protocol::{outgoing::OutgoingMessage, stream::Chunk},
    util::wakers::Wakers,
};

/// The kind of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// A call that waits for a reply.
    Request,
    /// A call that is complete when the socket has accepted it.
    Notification,
}

/// A call that is to be submitted.
#[derive(Debug)]
pub(crate) struct NewCall {
    pub(crate) message: OutgoingMessage,
    pub(crate) kind: CallKind,
    pub(crate) policy: CallPolicy,
    pub(crate) deadline: Instant,
    pub(crate) signature: &'static Signature,
    /// `None` if items go neither way.
    pub(crate) flows: Option<Box<Flows>>,
}

impl NewCall {
    /// Returns the bytes of capacity that the call needs: those of its message, and of the items that
    /// may come.
    pub(super) fn needs(&self) -> usize {
        self.message.len() + self.flows.as_ref().map_or(0, |flows| flows.window())
    }
}

/// The response to a call, or the reason why there is none.
pub(crate) type Outcome = Result<Reply, RpcError>;

/// The next part of a stream.
#[derive(Debug)]
pub(crate) enum Next {
    Items(Chunk),
    /// There are no more items.
    End(Outcome),
}

/// A response, which may still report an error.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) body: Bytes,
    /// The endpoint that the response came from.
    pub(crate) endpoint: Arc<EndpointState>,
    /// True if an earlier try may have run, even if the last try has not.
    pub(crate) maybe_ran: bool,
    /// The number of earlier tries.
    pub(crate) retries: u32,
}

/// A call in the table.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) call: NewCall,
    pub(super) state: CallState,
    /// The waker of the caller.
    pub(super) waker: Waker,
    /// The number of bytes that this call takes of the capacity: first those of the request, then
    /// those of the reply. `None` until the call has capacity.
    pub(super) charged: Option<usize>,
    /// True if a carrier has stored the request: a server gets it, whatever becomes of this side.
    pub(super) stored: bool,
    /// True if the call has stated the names of its parameters, for the server to compare.
    pub(super) states_names: bool,
    /// The earlier tries. `None` during the first try.
    pub(super) history: Option<Box<History>>,
}

impl Slot {
    pub(super) fn is_sent_on(&self, link: LinkId) -> bool {
        matches!(self.state, CallState::Sent(on) if on == link)
    }

    /// Returns the stream that the call passes as an argument.
    pub(super) fn outbox(&mut self) -> Option<&mut Outbox> {
        self.call.flows.as_mut()?.outbox.as_mut()
    }

    /// Tells of the items that went to or fro. A call that has any is not begun again.
    pub(super) fn progress(&self) -> Option<String> {
        self.call.flows.as_ref()?.progress()
    }

    /// Wakes the caller. It polls again, and then there is its next waker.
    pub(super) fn wake(&mut self, wakers: &mut Wakers) {
        if !self.waker.will_wake(Waker::noop()) {
            wakers.push(std::mem::replace(&mut self.waker, Waker::noop().clone()));
        }
    }
}

/// The progress of a call.
#[derive(Debug)]
pub(super) enum CallState {
    /// The call waits for capacity.
    AwaitsCapacity,
    /// The call is in the queue of a link, or unrouted. In this try, it has not left the process.
    Queued,
    /// A try has failed, and the call waits for its retry.
    BacksOff,
    /// The socket has accepted the call, or is about to.
    Sent(LinkId),
    /// The call has ended, and its caller has not taken the outcome yet.
    Done(Outcome),
}

/// The earlier tries of a call.
#[derive(Debug)]
pub(super) struct History {
    pub(super) retries: u32,
    /// True if the function may have run in one of the tries.
    pub(super) maybe_ran: bool,
    /// The error of the last try.
    pub(super) error: RpcError,
    /// The endpoint of the last try.
    pub(super) endpoint: Arc<EndpointState>,
    /// The server process that may have the reply in its cache. `None` unless the call has an
    /// idempotency key, is not idempotent, and may have run.
    pub(super) cached_by: Option<Arc<str>>,
}
