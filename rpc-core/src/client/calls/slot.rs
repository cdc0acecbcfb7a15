//! One call of a client: what it is, how far it has come, and its earlier tries.

use std::{sync::Arc, task::Waker, time::Instant};

use bytes::Bytes;

use crate::{
    client::{balancer::LinkId, calls::retry::CallPolicy, endpoints::EndpointState},
    error::RpcError,
    function::Signature,
    protocol::outgoing::OutgoingMessage,
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
}

/// The response to a call, or the reason why there is none.
pub(crate) type Outcome = Result<Reply, RpcError>;

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
