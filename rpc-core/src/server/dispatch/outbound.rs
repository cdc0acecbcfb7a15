//! Messages to clients, and those that need nothing but the request: refusals, and replies that are
//! sent again.

use bytes::Bytes;

use crate::{
    error::Ran,
    handler::HandlerResult,
    protocol::{
        MsgId,
        error::{Code, WireError},
        response,
    },
    server::{completion::Ticket, requests::Caller},
    transport::ReplyTo,
    util::fair_share::Lease,
};

/// A message to a client.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) reply_to: ReplyTo,
    pub(crate) body: Bytes,
    /// True if the message must not be sent in a batch.
    pub(crate) alone: bool,
    /// The stream that this is a part of.
    pub(crate) stream: Option<StreamPart>,
}

/// A message with items of a stream, or the response after them.
#[derive(Debug)]
pub(crate) struct StreamPart {
    pub(crate) ticket: Ticket,
    /// The capacity that a message with items holds until it is sent. `None` for the response.
    pub(crate) lease: Option<Lease>,
}

impl StreamPart {
    pub(crate) fn has_items(&self) -> bool {
        self.lease.is_some()
    }
}

impl Outbound {
    pub(super) fn new(reply_to: ReplyTo, body: Bytes) -> Self {
        Self { reply_to, body, alone: false, stream: None }
    }
}

/// Makes a response to `caller` from `reply`, which was made for another msgid.
pub(super) fn respond_again(caller: Caller, reply: &[u8]) -> Outbound {
    Outbound::new(caller.reply_to, response::with_id(reply, caller.id))
}

/// Returns the value of `ran` that belongs to a result.
pub(super) fn ran(result: &HandlerResult) -> Ran {
    result.as_ref().map_or_else(|error| error.ran, |_| Ran::Yes)
}

pub(super) fn bad_request(reason: &'static str) -> WireError {
    WireError::new(Code::BadRequest, Ran::No, reason)
}

/// Makes the response to a request that was never a call. Its size is not limited, so that the
/// caller learns the reason.
pub(super) fn refuse(reply_to: ReplyTo, id: Option<MsgId>, error: &WireError) -> Outbound {
    Outbound::new(reply_to, response::error_response(id, error))
}
