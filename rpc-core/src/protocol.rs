//! The wire protocol, as `PROTOCOL.md` specifies it: the encoding and parsing of messages. No I/O.
//!
//! Params and results stay encoded. Nothing here walks the arguments of a caller, except to find
//! their end.

pub(crate) mod batch;
pub(crate) mod control;
pub(crate) mod error;
pub(crate) mod metadata;
pub(crate) mod msgpack;
pub(crate) mod outgoing;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod stream;

/// The version of the protocol, as `rpc.hello` states it.
pub(crate) const PROTOCOL_VERSION: u32 = 1;

/// The default limit of a message in either direction, in bytes. It is far more than most calls
/// need, and small enough that a hundred messages fit into the memory of a machine.
pub(crate) const DEFAULT_MAX_MESSAGE_SIZE: usize = 16 * 1024 * 1024;

/// The longest idempotency key, in bytes: four times the length of a random key.
pub(crate) const MAX_KEY_LEN: usize = 64;

// The kind of a message, which is the first element of its body.
const REQUEST: u32 = 0;
const RESPONSE: u32 = 1;
const NOTIFICATION: u32 = 2;

/// The id of a call, chosen by its caller: unique among the calls in flight on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct MsgId(pub(crate) u32);

#[cfg(test)]
mod tests;
