//! Errors on the wire: their codes and fields.

use std::{mem::discriminant, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, EncodeError},
    error::{ErrorKind, Ran, RpcError},
    protocol::msgpack::find_key,
};

/// The error codes that `PROTOCOL.md` specifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Failed,
    Panicked,
    BadRequest,
    UnknownFunction,
    BadArguments,
    TooLarge,
    DeadlineExceeded,
    Cancelled,
    Overloaded,
    ShuttingDown,
    Denied,
    OtherInstance,
    /// The code of a hook of the server, which the protocol does not know.
    Other(&'static str),
}

/// Every code, with its text on the wire and the kind that its caller sees.
const CODES: [(Code, &str, ErrorKind); 12] = [
    (Code::Failed, "failed", ErrorKind::Failed),
    (Code::Panicked, "panicked", ErrorKind::Panicked),
    (Code::BadRequest, "bad_request", ErrorKind::BadRequest),
    (Code::UnknownFunction, "unknown_function", ErrorKind::UnknownFunction),
    (Code::BadArguments, "bad_arguments", ErrorKind::BadArguments),
    (Code::TooLarge, "too_large", ErrorKind::TooLarge { size: 0, limit: 0 }),
    (Code::DeadlineExceeded, "deadline_exceeded", ErrorKind::DeadlineExceeded),
    (Code::Cancelled, "cancelled", ErrorKind::Cancelled),
    (Code::Overloaded, "overloaded", ErrorKind::Overloaded),
    (Code::ShuttingDown, "shutting_down", ErrorKind::ShuttingDown),
    (Code::Denied, "denied", ErrorKind::Denied),
    // As if there were no connection to the process that is meant.
    (Code::OtherInstance, "other_instance", ErrorKind::Disconnected),
];

impl Code {
    pub(crate) fn as_str(self) -> &'static str {
        if let Self::Other(text) = self {
            return text;
        }
        CODES.iter().find(|(code, ..)| *code == self).map_or("", |(_, text, _)| text)
    }

    /// Returns the kind that a caller sees.
    pub(crate) fn kind(self) -> ErrorKind {
        let found = CODES.iter().find(|(code, ..)| *code == self);
        found.map_or(ErrorKind::Remote, |(.., kind)| *kind)
    }
}

/// Returns the same code, if the protocol has it.
#[cfg(feature = "metrics")]
pub(crate) fn known(code: &str) -> Option<&'static str> {
    CODES.iter().map(|(_, text, _)| *text).find(|text| *text == code)
}

/// Returns the code that belongs to a kind. Empty if there is none.
pub(crate) fn code_of(kind: ErrorKind) -> &'static str {
    let is_same = |other: &ErrorKind| discriminant(other) == discriminant(&kind);
    CODES.iter().find(|(.., other)| is_same(other)).map_or("", |(_, text, _)| text)
}

/// An error as a server puts it into a response.
#[derive(Debug)]
pub struct WireError {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) ran: Ran,
    /// The function's own error, or the details of the code, encoded.
    pub(crate) data: Option<Vec<u8>>,
    /// The time after which another try is worthwhile.
    pub(crate) retry_after: Option<Duration>,
}

impl WireError {
    pub(crate) fn new(code: Code, ran: Ran, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), ran, data: None, retry_after: None }
    }

    /// Makes the error of a request or reply (`what`) of `size` bytes that is over the server's
    /// `limit`.
    pub(crate) fn too_large(what: &str, ran: Ran, size: usize, limit: usize) -> Self {
        let text =
            format!("the {what} has {size} bytes, and the server's max_message_size is {limit}");
        let data = codec::to_vec(&Sizes { size, limit }).ok();
        Self { data, ..Self::new(Code::TooLarge, ran, text) }
    }

    /// Makes the error of a result, item or error (`what`) of a function that cannot be encoded.
    pub(crate) fn unencodable(what: &str, error: &EncodeError) -> Self {
        let text = format!("the function's {what} cannot be encoded: {error}");
        Self::new(Code::Failed, Ran::Yes, text)
    }

    /// Makes the error of a server that has as much in flight as it accepts, and expects capacity
    /// after `retry_after`.
    pub(crate) fn overloaded(message: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(Code::Overloaded, Ran::No, message) }
    }
}

/// The `data` of a `too_large` error. Both fields are in bytes, and zero if the peer leaves them
/// out.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Sizes {
    size: usize,
    limit: usize,
}

/// An error as a client reads it. Every field is optional, because a plain MessagePack-RPC peer may
/// send anything.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorReply {
    code: String,
    message: String,
    ran: Option<String>,
    retry_after_ms: Option<u64>,
}

/// Reads the error of a response. `encoded` is the part of `body` that contains it. If it is the
/// error of a plain MessagePack-RPC peer, without a `data` field, the whole of it becomes the data.
pub(super) fn parse(body: &Bytes, encoded: &[u8]) -> RpcError {
    let reply = codec::from_slice::<ErrorReply>(encoded).unwrap_or_else(|_| ErrorReply {
        // Plain MessagePack-RPC allows any value as an error, and most servers send text.
        message: codec::from_slice::<String>(encoded).unwrap_or_default(),
        ..ErrorReply::default()
    });
    let is_plain = !CODES.iter().any(|(_, text, _)| *text == reply.code);
    let data = find_key(encoded, "data").or(is_plain.then_some(encoded));
    reply.into_error(data.map(|data| body.slice_ref(data)))
}

impl ErrorReply {
    /// Makes the error that the caller sees. `data` is the function's own error, or the details of
    /// the code, in encoded form.
    fn into_error(self, data: Option<Bytes>) -> RpcError {
        let kind = CODES
            .iter()
            .find(|(_, text, _)| *text == self.code)
            .map_or(ErrorKind::Remote, |(.., kind)| *kind);
        let kind = match kind {
            ErrorKind::TooLarge { .. } => {
                let sizes = data.as_ref().and_then(|data| codec::from_slice(data).ok());
                let Sizes { size, limit } = sizes.unwrap_or_default();
                ErrorKind::TooLarge { size, limit }
            }
            kind => kind,
        };
        let ran = match (self.ran.as_deref(), kind) {
            (Some("no"), _) => Ran::No,
            (Some("yes"), _) | (None, ErrorKind::Failed | ErrorKind::Panicked) => Ran::Yes,
            _ => Ran::Maybe,
        };
        let message = match (kind, self.message.is_empty()) {
            (ErrorKind::Remote, false) if !self.code.is_empty() => {
                format!("{}: {}", self.code, self.message)
            }
            (_, false) => self.message,
            (_, true) if self.code.is_empty() => "the peer answered with an error".to_owned(),
            (_, true) => self.code.clone(),
        };
        RpcError::new(kind, ran, message)
            .with_code(self.code)
            .with_data(data)
            .with_retry_after(self.retry_after_ms.map(Duration::from_millis))
    }
}
