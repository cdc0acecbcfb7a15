//! Responses: what a server writes, and what a client makes of it.

use std::ops::Range;

use bytes::Bytes;
use rmp::{decode, encode};

use super::{MsgId, NIL, NOTIFICATION, RESPONSE, U32, read_str, read_u32, skip_value};
use crate::{
    codec,
    error::{ErrorReply, Ran, RpcError, WireError},
};

/// What a successful response begins with; the result follows and ends the body.
pub(crate) fn response_head(id: MsgId) -> [u8; 8] {
    let [a, b, c, d] = id.0.to_be_bytes();
    [0x94, 0x01, U32, a, b, c, d, NIL]
}

/// A response with an encoded result.
pub(crate) fn response(id: MsgId, result: &[u8]) -> Bytes {
    Bytes::from([&response_head(id), result].concat())
}

/// A copy of `response`, one that this side has made, as the answer to another request.
pub(crate) fn with_id(response: &[u8], id: MsgId) -> Bytes {
    let mut copy = response.to_vec();
    // Behind the array's marker, the kind, and that of a number of this width.
    copy[3..7].copy_from_slice(&id.0.to_be_bytes());
    Bytes::from(copy)
}

/// A response that says what went wrong.
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

/// What a client receives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Response {
        id: MsgId,
        /// Its error is not nil.
        failed: bool,
    },
    /// The server is about to stop: new calls belong elsewhere.
    Goodbye,
    /// Something that this version does not know, or cannot match. A caller ignores it.
    Other,
}

/// The msgid of a response as our servers write it when all is well; the result follows it, and
/// ends the body.
fn plain_response(body: &[u8]) -> Option<MsgId> {
    match body {
        [0x94, 1, U32, a, b, c, d, NIL, ..] => Some(MsgId(u32::from_be_bytes([*a, *b, *c, *d]))),
        _ => None,
    }
}

/// Reads only as much of a body as tells whose it is; the waiting call reads the rest in its own
/// task.
pub(crate) fn classify(body: &[u8]) -> Incoming {
    if let Some(id) = plain_response(body) {
        return Incoming::Response { id, failed: false };
    }
    let mut rest = body;
    if decode::read_array_len(&mut rest).is_err() {
        return Incoming::Other;
    }
    match read_u32(&mut rest) {
        Some(RESPONSE) => read_u32(&mut rest).map_or(Incoming::Other, |id| Incoming::Response {
            id: MsgId(id),
            failed: rest.first() != Some(&NIL),
        }),
        Some(NOTIFICATION) if read_str(&mut rest) == Some("rpc.goodbye") => Incoming::Goodbye,
        _ => Incoming::Other,
    }
}

/// A response's outcome: where in the body the result is, or what the peer says went wrong.
pub(crate) type Outcome = Result<Range<usize>, RpcError>;

/// Reads a response that [`classify`] has recognised. `None` if it is no well-formed response after
/// all.
pub(crate) fn parse_response(body: &Bytes) -> Option<Outcome> {
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
    let error = &error_at[..error_at.len() - rest.len()];
    if error != [NIL] {
        return Some(Err(parse_error(body, error)));
    }
    let start = body.len() - rest.len();
    let end = if elements == 5 {
        // An `info` follows, which this version does not use.
        skip_value(&mut rest)?;
        body.len() - rest.len()
    } else {
        body.len()
    };
    Some(Ok(start..end))
}

fn parse_error(body: &Bytes, error: &[u8]) -> RpcError {
    let reply = codec::from_slice::<ErrorReply>(error).unwrap_or_else(|_| ErrorReply {
        // Plain MessagePack-RPC allows any value; text is what most servers send.
        message: codec::from_slice::<String>(error).unwrap_or_default(),
        ..ErrorReply::default()
    });
    let data = find_key(error, "data").unwrap_or(error);
    reply.into_error(Some(body.slice_ref(data)))
}

/// The value of `key` in an encoded map.
fn find_key<'a>(mut map: &'a [u8], key: &str) -> Option<&'a [u8]> {
    for _ in 0..decode::read_map_len(&mut map).ok()? {
        let matches = read_str(&mut map)? == key;
        let value = map;
        skip_value(&mut map)?;
        if matches {
            return Some(&value[..value.len() - map.len()]);
        }
    }
    None
}
