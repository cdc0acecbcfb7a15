//! Responses: a server writes them, and a client parses them and the other messages of a server.

use std::ops::Range;

use bytes::Bytes;
use rmp::{decode, encode};

use super::{MsgId, NOTIFICATION, RESPONSE};
use crate::{
    error::{ErrorKind, Ran, RpcError},
    protocol::{
        control::{self, Window},
        error::{self, WireError},
        msgpack::{NIL, U32, read_str, read_u32, skip_value},
        stream::{self, ItemsHead},
    },
};

/// The length of the head of a successful response, in bytes.
pub(crate) const HEAD_LEN: usize = 8;

/// Returns the head of a successful response. The result follows, and ends the body.
pub(crate) fn response_head(id: MsgId) -> [u8; HEAD_LEN] {
    let [a, b, c, d] = id.0.to_be_bytes();
    [0x94, 0x01, U32, a, b, c, d, NIL]
}

/// Makes the response with an encoded result.
pub(crate) fn response(id: MsgId, result: &[u8]) -> Bytes {
    Bytes::from([&response_head(id), result].concat())
}

/// Copies `response` as the answer to another request. It must have been made by this file.
pub(crate) fn with_id(response: &[u8], id: MsgId) -> Bytes {
    let mut copy = response.to_vec();
    // Three bytes stand in front of the id: the marker of the array, the kind, and the id's marker.
    copy[3..7].copy_from_slice(&id.0.to_be_bytes());
    Bytes::from(copy)
}

/// Makes a response that reports an error. `id` is `None` if the id of the request is not known.
pub(crate) fn error_response(id: Option<MsgId>, error: &WireError) -> Bytes {
    const INFALLIBLE: &str = "a Vec takes any number of bytes";
    let mut out = Vec::with_capacity(64 + error.message.len());
    encode::write_array_len(&mut out, 4).expect(INFALLIBLE);
    encode::write_uint(&mut out, RESPONSE.into()).expect(INFALLIBLE);
    match id {
        Some(id) => encode::write_u32(&mut out, id.0).expect(INFALLIBLE),
        None => encode::write_nil(&mut out).expect(INFALLIBLE),
    }
    let ran = match error.ran {
        Ran::No => Some("no"),
        Ran::Yes => Some("yes"),
        Ran::Maybe => None,
    };
    let retry_after =
        error.retry_after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    let fields = 2
        + u32::from(ran.is_some())
        + u32::from(error.data.is_some())
        + u32::from(retry_after.is_some());
    encode::write_map_len(&mut out, fields).expect(INFALLIBLE);
    encode::write_str(&mut out, "code").expect(INFALLIBLE);
    encode::write_str(&mut out, error.code.as_str()).expect(INFALLIBLE);
    encode::write_str(&mut out, "message").expect(INFALLIBLE);
    encode::write_str(&mut out, &error.message).expect(INFALLIBLE);
    if let Some(ran) = ran {
        encode::write_str(&mut out, "ran").expect(INFALLIBLE);
        encode::write_str(&mut out, ran).expect(INFALLIBLE);
    }
    if let Some(data) = &error.data {
        encode::write_str(&mut out, "data").expect(INFALLIBLE);
        out.extend_from_slice(data);
    }
    if let Some(millis) = retry_after {
        encode::write_str(&mut out, "retry_after_ms").expect(INFALLIBLE);
        encode::write_uint(&mut out, millis).expect(INFALLIBLE);
    }
    out.push(NIL);
    Bytes::from(out)
}

/// Makes the error of a caller whose response cannot be read.
pub(crate) fn malformed() -> RpcError {
    RpcError::new(ErrorKind::Protocol, Ran::Maybe, "the reply is malformed")
}

/// A message from a server, read far enough to tell which call it belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ServerMessage {
    Response {
        id: MsgId,
        /// True if the error is not nil.
        failed: bool,
    },
    /// The server drains, and new calls belong elsewhere.
    GoAway,
    /// The server states the window of this client.
    Window(Window),
    /// Items of the stream that a call returns.
    Items(ItemsHead),
    /// The server takes more bytes of items of the stream that a call passes.
    Credit { id: MsgId, bytes: u64 },
    /// The message is unknown to this version, or cannot be matched with a call. The client ignores
    /// it.
    Other,
}

/// Returns the msgid of a successful response in exactly the form in which our servers write it.
/// `None` for any other body. The result follows that head, and ends the body.
fn plain_response(body: &[u8]) -> Option<MsgId> {
    match body {
        [0x94, 1, U32, a, b, c, d, NIL, ..] => Some(MsgId(u32::from_be_bytes([*a, *b, *c, *d]))),
        _ => None,
    }
}

/// Returns true if `body` is a successful response in exactly the form in which our servers write
/// it.
pub(crate) fn is_success(body: &[u8]) -> bool {
    plain_response(body).is_some()
}

/// Classifies a body that a client received. The task of the waiting call parses the rest.
pub(crate) fn classify(body: &[u8]) -> ServerMessage {
    if let Some(id) = plain_response(body) {
        return ServerMessage::Response { id, failed: false };
    }
    if let Some(head) = stream::plain_items(body).filter(|head| head.count > 0) {
        return ServerMessage::Items(head);
    }
    let mut rest = body;
    if decode::read_array_len(&mut rest).is_err() {
        return ServerMessage::Other;
    }
    match read_u32(&mut rest) {
        Some(RESPONSE) => read_u32(&mut rest).map_or(ServerMessage::Other, |id| {
            ServerMessage::Response { id: MsgId(id), failed: rest.first() != Some(&NIL) }
        }),
        Some(NOTIFICATION) => match read_str(&mut rest) {
            Some(control::GO_AWAY) => ServerMessage::GoAway,
            Some(control::WINDOW) => {
                control::read_window(rest).map_or(ServerMessage::Other, ServerMessage::Window)
            }
            Some(control::ITEM) => match stream::read_items(body, body.len() - rest.len()) {
                Some(head) if head.count > 0 => ServerMessage::Items(head),
                _ => ServerMessage::Other,
            },
            Some(control::CREDIT) => match stream::read_credit(rest) {
                Some((id, bytes)) => ServerMessage::Credit { id, bytes },
                None => ServerMessage::Other,
            },
            _ => ServerMessage::Other,
        },
        _ => ServerMessage::Other,
    }
}

/// Parses a response that [`classify`] has recognized. Returns the range of the result in the body,
/// or the error. `None` means that the response is malformed after all.
pub(crate) fn parse_response(body: &Bytes) -> Option<Result<Range<usize>, RpcError>> {
    if plain_response(body).is_some() {
        return Some(Ok(response_head(MsgId(0)).len()..body.len()));
    }
    let mut rest: &[u8] = body;
    let elements = decode::read_array_len(&mut rest).ok()?;
    if elements != 4 && elements != 5 {
        return None;
    }
    read_u32(&mut rest)?;
    read_u32(&mut rest)?;
    let error_at = rest;
    skip_value(&mut rest)?;
    let encoded = &error_at[..error_at.len() - rest.len()];
    if encoded != [NIL] {
        return Some(Err(error::parse(body, encoded)));
    }
    let start = body.len() - rest.len();
    let end = if elements == 5 {
        // This version makes no use of the `info` that follows.
        skip_value(&mut rest)?;
        body.len() - rest.len()
    } else {
        body.len()
    };
    Some(Ok(start..end))
}
