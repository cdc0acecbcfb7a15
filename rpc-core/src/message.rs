//! Request, response, notification: bytes ↔ header, as PROTOCOL.md has them. No I/O, and params and
//! results stay bytes: nothing here walks a caller's arguments.

pub(crate) mod batch;
mod response;

use std::time::Duration;

use rmp::{Marker, decode};

pub(crate) use self::response::{
    Incoming, classify, error_response, parse_response, response, response_head, with_id,
};
use crate::codec::MAX_DEPTH;

/// The version of the protocol that `rpc.hello` tells.
pub(crate) const PROTOCOL_VERSION: u32 = 1;

/// The longest message that a side takes and sends unless it is told otherwise, in bytes: far more
/// than a call needs, and little enough that a hundred of them fit into a machine.
pub(crate) const DEFAULT_MAX_MESSAGE_SIZE: usize = 16 * 1024 * 1024;

pub(crate) const NIL: u8 = 0xc0;
pub(crate) const EMPTY_ARRAY: u8 = 0x90;
const U32: u8 = 0xce;

const REQUEST: u32 = 0;
const RESPONSE: u32 = 1;
const NOTIFICATION: u32 = 2;
const TIMEOUT_KEY: &str = "timeout_ms";
const IDEMPOTENCY_KEY: &str = "key";
/// The longest idempotency key that is taken, in bytes: four times as long as a random one has to
/// be.
pub(crate) const MAX_KEY_LEN: usize = 64;

/// Identifies a call among those in flight on its connection; chosen by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct MsgId(pub(crate) u32);

/// What stands in front of the params.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Head<'a> {
    Request {
        id: MsgId,
        /// What is left of the caller's budget, in milliseconds; `None` for a peer that knows no
        /// options.
        timeout_ms: Option<u32>,
        /// The idempotency key. Only with a timeout.
        key: Option<&'a [u8]>,
    },
    Notification,
}

/// The longest head that a message for `method` can have, in bytes.
pub(crate) fn max_head_len(method: &str) -> usize {
    head_len(method, Head::Request { id: MsgId(0), timeout_ms: Some(0), key: None })
}

pub(crate) fn head_len(method: &str, head: Head<'_>) -> usize {
    let method_len = str_header_len(method.len()) + method.len();
    match head {
        Head::Request { timeout_ms: Some(_), key, .. } => {
            let key_len = key.map_or(0, |key| 1 + IDEMPOTENCY_KEY.len() + 2 + key.len());
            1 + 1 + 5 + method_len + 1 + 1 + TIMEOUT_KEY.len() + 5 + key_len
        }
        Head::Request { timeout_ms: None, .. } => 1 + 1 + 5 + method_len,
        Head::Notification => 1 + 1 + method_len,
    }
}

fn str_header_len(len: usize) -> usize {
    match len {
        0..32 => 1,
        32..256 => 2,
        256..65_536 => 3,
        _ => 5,
    }
}

/// Fills `out`, which is exactly [`head_len`] long. Numbers that change between tries are
/// fixed-width; byte by byte, because every call comes by here.
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
        put_str_header(IDEMPOTENCY_KEY.len(), &mut put);
        put(IDEMPOTENCY_KEY.as_bytes());
        put(&[0xc4, u8::try_from(key.len()).expect("a key has at most 64 bytes")]);
        put(key);
    }
}

fn put_str_header(len: usize, put: &mut impl FnMut(&[u8])) {
    let [.., b, a] = len.to_be_bytes();
    match len {
        0..32 => put(&[0xa0 | a]),
        32..256 => put(&[0xd9, a]),
        256..65_536 => put(&[0xda, b, a]),
        _ => {
            let len = u32::try_from(len).expect("no name has 4 GiB");
            put(&[0xdb]);
            put(&len.to_be_bytes());
        }
    }
}

/// A received body, its params still bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    Request(Request<'a>),
    Notification(Notification<'a>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    pub(crate) id: MsgId,
    pub(crate) method: &'a str,
    pub(crate) timeout: Option<Duration>,
    /// Names the call over all its tries: what has one is run once.
    pub(crate) key: Option<&'a [u8]>,
    /// Where the params begin; they end with the body, or there is something that should not be.
    pub(crate) params_at: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Notification<'a> {
    pub(crate) method: &'a str,
    pub(crate) params_at: usize,
}

/// A body that is no message, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Answer `bad_request`, with the id if it could be read, so that a REQ socket does not lock
    /// up.
    Request(Option<MsgId>, &'static str),
    /// A notification is never answered, malformed or not.
    Notification(&'static str),
}

/// A request as our clients write it, without a key: read at once, because nearly every call comes
/// by here.
fn plain_request(body: &[u8]) -> Option<Request<'_>> {
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

/// Reads a body as a server receives it.
pub(crate) fn parse(body: &[u8]) -> Result<Message<'_>, Malformed> {
    match plain_request(body) {
        Some(request) => Ok(Message::Request(request)),
        None => parse_any(body),
    }
}

fn parse_any(body: &[u8]) -> Result<Message<'_>, Malformed> {
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
            Ok(Message::Request(Request { id, method, timeout, key, params_at }))
        }
        Some(NOTIFICATION) => {
            let (method, _, params_at) =
                parse_method(body, rest, elements, 2).map_err(Malformed::Notification)?;
            Ok(Message::Notification(Notification { method, params_at }))
        }
        Some(RESPONSE) => Err(bad("a server takes no responses")),
        _ => Err(bad("the body's first element is not 0 (request) or 2 (notification)")),
    }
}

/// The rest of a request or notification, which has `before` elements before its options or params.
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

/// Reads the options that it knows and skips every other, known to a later version or not.
fn read_options<'a>(rest: &mut &'a [u8]) -> Result<Options<'a>, &'static str> {
    const NO_MAP: &str = "the options are no map of strings to values";
    let mut options = Options::default();
    for _ in 0..decode::read_map_len(rest).map_err(|_| NO_MAP)? {
        match read_str(rest).ok_or(NO_MAP)? {
            TIMEOUT_KEY => {
                let millis: u64 =
                    decode::read_int(rest).map_err(|_| "timeout_ms is no unsigned integer")?;
                options.timeout = Some(Duration::from_millis(millis));
            }
            IDEMPOTENCY_KEY => {
                let key =
                    read_str_or_bin(rest).filter(|key| (1..=MAX_KEY_LEN).contains(&key.len()));
                options.key = Some(key.ok_or("the key is no text or bytes, of 1 to 64 bytes")?);
            }
            _ => skip_value(rest).ok_or(NO_MAP)?,
        }
    }
    Ok(options)
}

/// The bytes of a text or of a `bin`.
fn read_str_or_bin<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if let Some(text) = read_str(rest) {
        return Some(text.as_bytes());
    }
    let len = usize::try_from(decode::read_bin_len(rest).ok()?).ok()?;
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

fn read_u32(rest: &mut &[u8]) -> Option<u32> {
    // `read_int` consumes the marker even of what is no integer, so the caller must not go on after
    // `None`.
    decode::read_int(rest).ok()
}

pub(crate) fn read_str<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (text, after) = decode::read_str_from_slice(*rest).ok()?;
    *rest = after;
    Some(text)
}

/// Whether `marker` begins an array or a map.
pub(crate) fn is_params_marker(marker: u8) -> bool {
    matches!(
        Marker::from_u8(marker),
        Marker::FixArray(_)
            | Marker::Array16
            | Marker::Array32
            | Marker::FixMap(_)
            | Marker::Map16
            | Marker::Map32
    )
}

/// How many params there are. `None` if they are no well-formed array or map, or something follows
/// them.
pub(crate) fn count_params(params: &[u8]) -> Option<usize> {
    let mut rest = params;
    let count = decode::read_array_len(&mut rest).or_else(|_| {
        rest = params;
        decode::read_map_len(&mut rest)
    });
    let mut rest = params;
    skip_value(&mut rest)?;
    if !rest.is_empty() {
        return None;
    }
    usize::try_from(count.ok()?).ok()
}

/// Moves `rest` behind one value of any kind, without decoding it. `None` if the bytes end too
/// early, nest too deeply or hold the one reserved marker.
pub(crate) fn skip_value(rest: &mut &[u8]) -> Option<()> {
    // How many values are still to come on each level. A fixed array: no input can make it grow.
    let mut open = [0u64; MAX_DEPTH];
    let mut depth = 0;
    open[0] = 1;
    loop {
        while open[depth] == 0 {
            if depth == 0 {
                return Some(());
            }
            depth -= 1;
        }
        open[depth] -= 1;
        let marker = decode::read_marker(rest).ok()?;
        let (bytes, values) = size_behind(marker, rest)?;
        *rest = rest.get(bytes..)?;
        if values > 0 {
            depth += 1;
            *open.get_mut(depth)? = values;
        }
    }
}

/// How many plain bytes and how many values follow `marker`, whose length field is read from
/// `rest`.
fn size_behind(marker: Marker, rest: &mut &[u8]) -> Option<(usize, u64)> {
    let mut length = |width: usize| {
        let (field, after) = rest.split_at_checked(width)?;
        *rest = after;
        Some(field.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte)))
    };
    let bytes = match marker {
        Marker::Null | Marker::True | Marker::False | Marker::FixPos(_) | Marker::FixNeg(_) => 0,
        Marker::U8 | Marker::I8 => 1,
        Marker::U16 | Marker::I16 | Marker::FixExt1 => 2,
        Marker::FixExt2 => 3,
        Marker::U32 | Marker::I32 | Marker::F32 => 4,
        Marker::FixExt4 => 5,
        Marker::U64 | Marker::I64 | Marker::F64 => 8,
        Marker::FixExt8 => 9,
        Marker::FixExt16 => 17,
        Marker::FixStr(len) => len.into(),
        Marker::Str8 | Marker::Bin8 => length(1)?,
        Marker::Str16 | Marker::Bin16 => length(2)?,
        Marker::Str32 | Marker::Bin32 => length(4)?,
        Marker::Ext8 => length(1)? + 1,
        Marker::Ext16 => length(2)? + 1,
        Marker::Ext32 => length(4)?.saturating_add(1),
        Marker::FixArray(len) => return Some((0, len.into())),
        Marker::Array16 => return Some((0, length(2)? as u64)),
        Marker::Array32 => return Some((0, length(4)? as u64)),
        Marker::FixMap(len) => return Some((0, 2 * u64::from(len))),
        Marker::Map16 => return Some((0, 2 * length(2)? as u64)),
        Marker::Map32 => return Some((0, 2 * length(4)? as u64)),
        Marker::Reserved => return None,
    };
    Some((bytes, 0))
}

#[cfg(test)]
mod tests;
