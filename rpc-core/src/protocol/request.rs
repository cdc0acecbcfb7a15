//! Requests and notifications: a client writes their heads, and a server parses their bodies.

use std::time::Duration;

use rmp::decode;

use super::{MAX_KEY_LEN, MsgId, NOTIFICATION, REQUEST, RESPONSE};
use crate::protocol::{
    metadata,
    msgpack::{
        U32, U64, is_params_marker, put_str, read_str, read_str_or_bin, read_u32, skip_value,
        str_header_len,
    },
};

const TIMEOUT_OPTION: &str = "timeout_ms";
const KEY_OPTION: &str = "key";
const INSTANCE_OPTION: &str = "instance";
const PARAMS_OPTION: &str = "params";
const META_OPTION: &str = "meta";
const TRACE_OPTION: &str = "trace";
const STREAM_OPTION: &str = "stream";

/// The part of a message that stands in front of its params, without the method.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Head<'a> {
    Request {
        id: MsgId,
        /// The time that the caller has left, in milliseconds. `None` for a peer that knows no
        /// options.
        timeout_ms: Option<u32>,
        /// They are written only together with a timeout.
        options: Option<&'a Options<'a>>,
    },
    /// A notification has no timeout.
    Notification(Option<&'a Options<'a>>),
}

impl Head<'_> {
    /// The head of a notification without options.
    pub(crate) const NOTIFICATION: Self = Self::Notification(None);

    /// Makes the head of a request without a timeout and options.
    pub(crate) const fn request(id: MsgId) -> Self {
        Self::Request { id, timeout_ms: None, options: None }
    }
}

/// The options of a message besides its timeout. Most messages have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options<'a> {
    /// The idempotency key, which is the same in all tries of a call.
    pub(crate) key: Option<&'a [u8]>,
    /// The server process that the request is for.
    pub(crate) instance: Option<&'a str>,
    /// The names of the parameters, as the caller knows the function: an encoded array of texts.
    pub(crate) params: Option<&'a [u8]>,
    /// The encoded map of the metadata.
    pub(crate) meta: Option<&'a [u8]>,
    /// The `traceparent` of the caller.
    pub(crate) trace: Option<&'a str>,
    /// The credit, in bytes, for the first items of the stream that the function returns.
    pub(crate) stream: Option<u64>,
}

impl Options<'_> {
    pub(crate) const NONE: Self =
        Self { key: None, instance: None, params: None, meta: None, trace: None, stream: None };

    /// Returns the number of options.
    fn count(&self) -> u8 {
        u8::from(self.key.is_some())
            + u8::from(self.instance.is_some())
            + u8::from(self.params.is_some())
            + u8::from(self.meta.is_some())
            + u8::from(self.trace.is_some())
            + u8::from(self.stream.is_some())
    }

    /// Returns the length of the encoded options, in bytes.
    #[cold]
    fn len(&self) -> usize {
        let text_len = |text: &str| str_header_len(text.len()) + text.len();
        let key = self.key.map_or(0, |key| text_len(KEY_OPTION) + 2 + key.len());
        let instance = self.instance;
        let instance = instance.map_or(0, |name| text_len(INSTANCE_OPTION) + text_len(name));
        let params = self.params.map_or(0, |names| text_len(PARAMS_OPTION) + names.len());
        let meta = self.meta.map_or(0, |map| text_len(META_OPTION) + map.len());
        let trace = self.trace.map_or(0, |text| text_len(TRACE_OPTION) + text_len(text));
        let stream = self.stream.map_or(0, |_| text_len(STREAM_OPTION) + 1 + size_of::<u64>());
        key + instance + params + meta + trace + stream
    }

    #[cold]
    fn write(&self, put: &mut impl FnMut(&[u8])) {
        if let Some(key) = self.key {
            put_str(KEY_OPTION, put);
            put(&[0xc4, u8::try_from(key.len()).expect("a key has at most 64 bytes")]);
            put(key);
        }
        if let Some(instance) = self.instance {
            put_str(INSTANCE_OPTION, put);
            put_str(instance, put);
        }
        if let Some(params) = self.params {
            put_str(PARAMS_OPTION, put);
            put(params);
        }
        if let Some(meta) = self.meta {
            put_str(META_OPTION, put);
            put(meta);
        }
        if let Some(trace) = self.trace {
            put_str(TRACE_OPTION, put);
            put_str(trace, put);
        }
        if let Some(credit) = self.stream {
            put_str(STREAM_OPTION, put);
            put(&[U64]);
            put(&credit.to_be_bytes());
        }
    }
}

/// Returns the length of the longest head of a message for `method` that has no options besides the
/// timeout, in bytes.
pub(crate) fn max_head_len(method: &str) -> usize {
    head_len(method, Head::Request { id: MsgId(0), timeout_ms: Some(0), options: None })
}

#[inline]
pub(crate) fn head_len(method: &str, head: Head<'_>) -> usize {
    let method_len = str_header_len(method.len()) + method.len();
    match head {
        Head::Request { timeout_ms: Some(_), options, .. } => {
            let options_len = options.map_or(0, Options::len);
            1 + 1 + 5 + method_len + 1 + 1 + TIMEOUT_OPTION.len() + 5 + options_len
        }
        Head::Request { timeout_ms: None, .. } => 1 + 1 + 5 + method_len,
        Head::Notification(options) => {
            1 + 1 + method_len + options.map_or(0, |options| 1 + options.len())
        }
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
        Head::Notification(options) => put(&[0x93 + u8::from(options.is_some()), 2]),
    }
    put_str(method, &mut put);
    match head {
        Head::Request { timeout_ms: Some(timeout_ms), options, .. } => {
            put(&[0x81 + options.map_or(0, Options::count)]);
            put(b"\xaatimeout_ms\xce");
            put(&timeout_ms.to_be_bytes());
            if let Some(options) = options {
                options.write(&mut put);
            }
        }
        Head::Notification(Some(options)) => {
            put(&[0x80 + options.count()]);
            options.write(&mut put);
        }
        Head::Request { timeout_ms: None, .. } | Head::Notification(None) => {}
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
    /// In a box, because few requests have any.
    pub(crate) options: Option<Box<Options<'a>>>,
    /// The start of the params in the body. They end with the body: a request with more bytes is
    /// malformed.
    pub(crate) params_at: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Notification<'a> {
    pub(crate) method: &'a str,
    /// Their key, instance and names of params mean nothing in a notification.
    pub(crate) options: Option<Box<Options<'a>>>,
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

/// Parses a request without further options, in exactly the form in which our clients write it. This is the
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
        options: None,
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
            let Tail { method, timeout, options, params_at } = parse_tail(body, rest, elements, 3)
                .map_err(|reason| Malformed::Request(Some(id), reason))?;
            Ok(ClientMessage::Request(Request { id, method, timeout, options, params_at }))
        }
        Some(NOTIFICATION) => {
            let Tail { method, options, params_at, .. } =
                parse_tail(body, rest, elements, 2).map_err(Malformed::Notification)?;
            Ok(ClientMessage::Notification(Notification { method, options, params_at }))
        }
        Some(RESPONSE) => Err(bad("a server takes no responses")),
        _ => Err(bad("the body's first element is not 0 (request) or 2 (notification)")),
    }
}

/// The part of a message from its method on.
struct Tail<'a> {
    method: &'a str,
    timeout: Option<Duration>,
    options: Option<Box<Options<'a>>>,
    params_at: usize,
}

/// Parses the rest of a message, from its method on. `before` is the number of elements in front of
/// the options or params, including the method.
fn parse_tail<'a>(
    body: &'a [u8],
    mut rest: &'a [u8],
    elements: u32,
    before: u32,
) -> Result<Tail<'a>, &'static str> {
    if elements != before + 1 && elements != before + 2 {
        return Err("a request has 4 or 5 elements, a notification 3 or 4");
    }
    let method = read_str(&mut rest).ok_or("the method is no UTF-8 string")?;
    let (timeout, options) =
        if elements == before + 2 { read_options(&mut rest)? } else { (None, None) };
    if !rest.first().copied().is_some_and(is_params_marker) {
        return Err("the params are neither an array nor a map");
    }
    Ok(Tail { method, timeout, options, params_at: body.len() - rest.len() })
}

/// Reads the timeout and the options that this version knows. It skips all others, which a later
/// version may define.
fn read_options<'a>(
    rest: &mut &'a [u8],
) -> Result<(Option<Duration>, Option<Box<Options<'a>>>), &'static str> {
    const NO_MAP: &str = "the options are no map of strings to values";
    const NO_METADATA: &str =
        "the metadata is no map of texts to texts or bytes, of at most 32 pairs and 4,096 bytes";
    let (mut timeout, mut options) = (None, Options::NONE);
    for _ in 0..decode::read_map_len(rest).map_err(|_| NO_MAP)? {
        match read_str(rest).ok_or(NO_MAP)? {
            TIMEOUT_OPTION => {
                let millis: u64 =
                    decode::read_int(rest).map_err(|_| "timeout_ms is no unsigned integer")?;
                timeout = Some(Duration::from_millis(millis));
            }
            KEY_OPTION => {
                let key =
                    read_str_or_bin(rest).filter(|key| (1..=MAX_KEY_LEN).contains(&key.len()));
                options.key = Some(key.ok_or("the key is no text or bytes, of 1 to 64 bytes")?);
            }
            INSTANCE_OPTION => {
                options.instance = Some(read_str(rest).ok_or("the instance is no text")?);
            }
            PARAMS_OPTION => {
                let before = *rest;
                skip_value(rest).ok_or(NO_MAP)?;
                options.params = Some(&before[..before.len() - rest.len()]);
            }
            META_OPTION => options.meta = Some(metadata::read(rest).ok_or(NO_METADATA)?),
            TRACE_OPTION => {
                options.trace = metadata::trace_parent(rest);
                skip_value(rest).ok_or(NO_MAP)?;
            }
            STREAM_OPTION => {
                let credit = decode::read_int(rest).map_err(|_| "stream is no unsigned integer")?;
                options.stream = Some(credit);
            }
            _ => skip_value(rest).ok_or(NO_MAP)?,
        }
    }
    Ok((timeout, (options != Options::NONE).then(|| Box::new(options))))
}
