//! Requests and notifications: a client writes their heads, and a server parses their bodies.

use std::time::Duration;

use rmp::decode;

use super::{MAX_KEY_LEN, MsgId, NOTIFICATION, REQUEST, RESPONSE};
use crate::protocol::msgpack::{
    U32, is_params_marker, put_str_header, read_str, read_str_or_bin, read_u32, skip_value,
    str_header_len,
};

const TIMEOUT_OPTION: &str = "timeout_ms";
const KEY_OPTION: &str = "key";

/// The part of a message that stands in front of its params, without the method.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Head<'a> {
    Request {
        id: MsgId,
        /// The time that the caller has left, in milliseconds. `None` for a peer that knows no
        /// options.
        timeout_ms: Option<u32>,
        /// The idempotency key. It is written only together with a timeout.
        key: Option<&'a [u8]>,
    },
    Notification,
}

/// Returns the length of the longest head of a message for `method` that has no key, in bytes.
pub(crate) fn max_head_len(method: &str) -> usize {
    head_len(method, Head::Request { id: MsgId(0), timeout_ms: Some(0), key: None })
}

pub(crate) fn head_len(method: &str, head: Head<'_>) -> usize {
    let method_len = str_header_len(method.len()) + method.len();
    match head {
        Head::Request { timeout_ms: Some(_), key, .. } => {
            let key_len = key.map_or(0, |key| 1 + KEY_OPTION.len() + 2 + key.len());
            1 + 1 + 5 + method_len + 1 + 1 + TIMEOUT_OPTION.len() + 5 + key_len
        }
        Head::Request { timeout_ms: None, .. } => 1 + 1 + 5 + method_len,
        Head::Notification => 1 + 1 + method_len,
    }
}

/// Writes a head into `out`, whose length is exactly [`head_len`]. Numbers that change between
/// tries have a fixed width. The bytes are written directly and not by an encoder, because every
/// call comes through here.
pub(crate) fn write_head(out: &mut [u8], method: &str, head: Head<'_>) {
    let mut rest = out;
    let mut put = |bytes: &[u8]| {
        let (now, later) = std::mem::take(&mut rest).split_at_mut(bytes.len());
        now.copy_from_slice(bytes);
        rest = later;
    };
    match head {
        Head::Request { id, timeout_ms, .. } => {
            let [a, b, c, d] = id.0.to_be_bytes();
            let elements = 0x94 + u8::from(timeout_ms.is_some());
            put(&[elements, 0, U32, a, b, c, d]);
        }
        Head::Notification => put(&[0x93, 2]),
    }
    put_str_header(method.len(), &mut put);
    put(method.as_bytes());
    let Head::Request { timeout_ms: Some(timeout_ms), key, .. } = head else { return };
    put(&[0x81 + u8::from(key.is_some())]);
    put(b"\xaatimeout_ms\xce");
    put(&timeout_ms.to_be_bytes());
    if let Some(key) = key {
        put_str_header(KEY_OPTION.len(), &mut put);
        put(KEY_OPTION.as_bytes());
        put(&[0xc4, u8::try_from(key.len()).expect("a key has at most 64 bytes")]);
        put(key);
    }
}

/// A message from a client, with encoded params.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClientMessage<'a> {
    Request(Request<'a>),
    Notification(Notification<'a>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    pub(crate) id: MsgId,
    pub(crate) method: &'a str,
    pub(crate) timeout: Option<Duration>,
    /// The idempotency key, which is the same in all tries of a call.
    pub(crate) key: Option<&'a [u8]>,
    /// The start of the params in the body. They end with the body: a request with more bytes is
    /// malformed.
    pub(crate) params_at: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Notification<'a> {
    pub(crate) method: &'a str,
    pub(crate) params_at: usize,
}

/// The reason why a body is not a valid message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// The body is to be answered with `bad_request`, so that a REQ socket can go on. The answer
    /// has the id of the request if that could be read.
    Request(Option<MsgId>, &'static str),
    /// The body is not to be answered, because a notification never is.
    Notification(&'static str),
}

/// Parses a body that a server received.
pub(crate) fn parse(body: &[u8]) -> Result<ClientMessage<'_>, Malformed> {
    match parse_plain(body) {
        Some(request) => Ok(ClientMessage::Request(request)),
        None => parse_any(body),
    }
}

/// Parses a request without a key, in exactly the form in which our clients write it. This is the
/// fast path of nearly every call. `None` leaves the body to [`parse_any`].
pub(super) fn parse_plain(body: &[u8]) -> Option<Request<'_>> {
    let (id, rest) = body.strip_prefix(&[0x95, 0, U32])?.split_first_chunk()?;
    let (len, rest) = match rest {
        [marker @ 0xa0..=0xbf, rest @ ..] => (marker & 0x1f, rest),
        [0xd9, len, rest @ ..] => (*len, rest),
        _ => return None,
    };
    let (method, rest) = rest.split_at_checked(len.into())?;
    let (timeout_ms, params) = rest.strip_prefix(b"\x81\xaatimeout_ms\xce")?.split_first_chunk()?;
    if !params.first().copied().is_some_and(is_params_marker) {
        return None;
    }
    Some(Request {
        id: MsgId(u32::from_be_bytes(*id)),
        method: str::from_utf8(method).ok()?,
        timeout: Some(Duration::from_millis(u32::from_be_bytes(*timeout_ms).into())),
        key: None,
        params_at: body.len() - params.len(),
    })
}

/// Parses a message in any valid form.
pub(super) fn parse_any(body: &[u8]) -> Result<ClientMessage<'_>, Malformed> {
    let bad = |reason| Malformed::Request(None, reason);
    let mut rest = body;
    let elements =
        decode::read_array_len(&mut rest).map_err(|_| bad("the body is no MessagePack array"))?;
    match read_u32(&mut rest) {
        Some(REQUEST) => {
            let id = read_u32(&mut rest)
                .map(MsgId)
                .ok_or(bad("the msgid is no unsigned 32-bit integer"))?;
            let (method, options, params_at) = parse_method(body, rest, elements, 3)
                .map_err(|reason| Malformed::Request(Some(id), reason))?;
            let Options { timeout, key } = options;
            Ok(ClientMessage::Request(Request { id, method, timeout, key, params_at }))
        }
        Some(NOTIFICATION) => {
            let (method, _, params_at) =
                parse_method(body, rest, elements, 2).map_err(Malformed::Notification)?;
            Ok(ClientMessage::Notification(Notification { method, params_at }))
        }
        Some(RESPONSE) => Err(bad("a server takes no responses")),
        _ => Err(bad("the body's first element is not 0 (request) or 2 (notification)")),
    }
}

/// Parses the rest of a message, from its method on. `before` is the number of elements in front of
/// the options or params, including the method.
fn parse_method<'a>(
    body: &'a [u8],
    mut rest: &'a [u8],
    elements: u32,
    before: u32,
) -> Result<(&'a str, Options<'a>, usize), &'static str> {
    if elements != before + 1 && elements != before + 2 {
        return Err("a request has 4 or 5 elements, a notification 3 or 4");
    }
    let method = read_str(&mut rest).ok_or("the method is no UTF-8 string")?;
    let options =
        if elements == before + 2 { read_options(&mut rest)? } else { Options::default() };
    if !rest.first().copied().is_some_and(is_params_marker) {
        return Err("the params are neither an array nor a map");
    }
    Ok((method, options, body.len() - rest.len()))
}

/// The options that this version knows.
#[derive(Default)]
struct Options<'a> {
    timeout: Option<Duration>,
    key: Option<&'a [u8]>,
}

/// Reads the options that this version knows. It skips all others, which a later version may
/// define.
fn read_options<'a>(rest: &mut &'a [u8]) -> Result<Options<'a>, &'static str> {
    const NO_MAP: &str = "the options are no map of strings to values";
    let mut options = Options::default();
    for _ in 0..decode::read_map_len(rest).map_err(|_| NO_MAP)? {
        match read_str(rest).ok_or(NO_MAP)? {
            TIMEOUT_OPTION => {
                let millis: u64 =
                    decode::read_int(rest).map_err(|_| "timeout_ms is no unsigned integer")?;
                options.timeout = Some(Duration::from_millis(millis));
            }
            KEY_OPTION => {
                let key =
                    read_str_or_bin(rest).filter(|key| (1..=MAX_KEY_LEN).contains(&key.len()));
                options.key = Some(key.ok_or("the key is no text or bytes, of 1 to 64 bytes")?);
            }
            _ => skip_value(rest).ok_or(NO_MAP)?,
        }
    }
    Ok(options)
}
