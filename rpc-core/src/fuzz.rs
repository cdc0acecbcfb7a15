//! The entry point of the fuzz target and of the tests with hostile input. [`decode`] runs all code
//! that decodes the input of a peer, and asserts its invariants. It does no I/O and runs no user
//! code. Not public API.

#![allow(clippy::missing_panics_doc)] // These functions report a broken invariant by a panic.

use std::{borrow::Cow, collections::BTreeMap, fmt::Debug};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    codec::{self, DecodeError, Reader, Writer},
    discover::ServiceDescription,
    error::Ran,
    function::Param,
    params::Params,
    protocol::{
        MsgId, batch, control,
        error::{Code, WireError},
        msgpack,
        request::{self, ClientMessage, Head, Malformed, Request},
        response::{self, ServerMessage},
        stream::{Chunk, ItemsHead},
    },
    value::{DecodeBySerde, EncodeBySerde, Value},
};

/// The longest answer to a request that cannot be served, in bytes. It is bounded because input of
/// a peer is quoted only in part.
const LONGEST_REFUSAL: usize = 2_048;

/// Decodes `bytes` in every way in which a peer can make either side decode them.
///
/// # Panics
/// If an invariant of the protocol code is broken. No bytes may cause that.
pub fn decode(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    if let Some(messages) = batch::unpack(&body) {
        let mut packed = 0;
        for message in messages.flatten() {
            packed += 2 + message.len();
            as_a_server(&message);
            as_a_client(&message);
        }
        assert!(packed <= body.len(), "each message has a head of two bytes at least");
    }
    as_a_server(&body);
    as_a_client(&body);
    value(&body);
    all_params(&body, 0);
}

/// Decodes a body as a server does.
fn as_a_server(body: &Bytes) {
    match request::parse(body) {
        Ok(ClientMessage::Request(request)) => {
            assert!(msgpack::is_params_marker(body[request.params_at]));
            written_again(&request, &body[request.params_at..]);
            all_params(body, request.params_at);
            if let Some(count) = msgpack::count_params(&body[request.params_at..]) {
                assert!(count <= body.len(), "each param has one byte at least");
            }
        }
        Ok(ClientMessage::Notification(notification)) => {
            let params = &body[notification.params_at..];
            assert!(msgpack::is_params_marker(params[0]));
            if let Some(id) = control::read_cancel(params) {
                assert_eq!(codec::from_slice::<(u32,)>(params).map(|(id,)| id).ok(), Some(id.0));
            }
            let head = Head::Notification(notification.options.as_deref());
            let again = message_of(notification.method, head, params);
            let Ok(ClientMessage::Notification(read)) = request::parse(&again) else {
                panic!("{body:?}")
            };
            assert_eq!(read.method, notification.method);
            assert_eq!(read.options, notification.options);
            assert_eq!(&again[read.params_at..], params);
            all_params(body, notification.params_at);
        }
        Err(Malformed::Request(id, reason)) => {
            let refusal = WireError::new(Code::BadRequest, Ran::No, reason);
            let refusal = response::error_response(id, &refusal);
            assert!(refusal.len() < LONGEST_REFUSAL);
            // A client cannot match a response without an id.
            let expected =
                id.map_or(ServerMessage::Other, |id| ServerMessage::Response { id, failed: true });
            assert_eq!(response::classify(&refusal), expected);
        }
        Err(Malformed::Notification(_)) => {}
    }
}

/// Checks that a request is the same after it was encoded and parsed again.
fn written_again(request: &Request<'_>, params: &[u8]) {
    let timeout_ms =
        request.timeout.map(|timeout| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
    // Options are written only together with a timeout.
    let options = request.options.as_deref().filter(|_| timeout_ms.is_some());
    let head = Head::Request { id: request.id, timeout_ms, options };
    let again = message_of(request.method, head, params);
    let Ok(ClientMessage::Request(read)) = request::parse(&again) else { panic!("{request:?}") };
    assert_eq!(
        (read.id, read.method, read.options.as_deref()),
        (request.id, request.method, options)
    );
    assert_eq!(read.timeout.is_some(), request.timeout.is_some());
    assert_eq!(&again[read.params_at..], params);
}

fn message_of(method: &str, head: Head<'_>, params: &[u8]) -> Vec<u8> {
    let mut message = vec![0; request::head_len(method, head)];
    request::write_head(&mut message, method, head);
    message.extend_from_slice(params);
    message
}

/// Decodes a body as a client does.
fn as_a_client(body: &Bytes) {
    let (id, failed) = match response::classify(body) {
        ServerMessage::Response { id, failed } => (id, failed),
        ServerMessage::Items(head) => {
            return items(body, head);
        }
        ServerMessage::GoAway
        | ServerMessage::Window(_)
        | ServerMessage::Credit { .. }
        | ServerMessage::Other => return,
    };
    let response = response::parse_response(body);
    assert!(response.as_ref().is_none_or(|response| response.is_err() == failed));
    match response {
        Some(Ok(range)) => {
            assert!(range.start <= range.end && range.end <= body.len());
            let result = &body[range.clone()];
            let mut reader = Reader::new(body, result);
            if let Ok(bytes) = reader.shared_bytes() {
                assert!(bytes.len() < result.len());
            }
            // `Client::discover` decodes a result to this type.
            let _ = codec::from_slice::<ServiceDescription>(result);
            if codec::from_slice::<IgnoredAny>(result).is_ok() {
                let head = response::response_head(id);
                let again = response::response(id, result);
                assert_eq!(
                    response::parse_response(&again).map(Result::ok),
                    Some(Some(head.len()..again.len()))
                );
            }
        }
        Some(Err(error)) => {
            assert!(!error.to_string().is_empty());
            // Decodes the function's own error to two types, with any outcome.
            let _ = error.data::<String>();
            let _ = error.data::<Point>();
        }
        None => {}
    }
}

/// Reads the items of a message, as a type that takes few of them and as one that takes nearly all.
fn items(body: &Bytes, head: ItemsHead) {
    fn read<T: for<'de> Deserialize<'de>>(chunk: &mut Chunk) -> Option<Result<T, DecodeError>> {
        #[allow(clippy::redundant_closure_for_method_calls)] // Its reader may have any lifetime.
        chunk.read(|reader| reader.value())
    }
    let [mut points, mut others] = [(); 2].map(|()| Chunk::new(body.clone(), head));
    let mut count = 0;
    while let Some(other) = read::<IgnoredAny>(&mut others) {
        count += 1;
        let point = read::<Point>(&mut points).expect("there is another item");
        assert_eq!(points.count(), others.count(), "the type does not change their places");
        assert!(other.is_ok() || point.is_err(), "what is no value is no point");
    }
    assert!(count <= body.len(), "each item but the last has one byte at least");
}

/// Decodes and skips a body as one value of any kind, and checks that both agree.
fn value(body: &Bytes) {
    let mut rest: &[u8] = body;
    let skipped = msgpack::skip_value(&mut rest);
    assert!(rest.len() <= body.len());
    if codec::from_slice::<IgnoredAny>(body).is_ok() {
        assert_eq!(skipped, Some(()), "a value that can be decoded can be skipped");
        assert!(rest.is_empty(), "decoding and skipping find the same end of the value");
    }
    if let Some(count) = msgpack::count_params(body) {
        assert_eq!(skipped, Some(()));
        assert!(count <= body.len());
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i32,
    y: Option<i64>,
    label: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Circle(u32),
    Line(Point, Point),
    Polygon {
        points: Vec<Point>,
        closed: bool,
    },
    /// A variant that can be nested to any depth.
    Group(Box<Shape>),
}

/// A type that can be nested to any depth.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tree {
    leaves: Vec<u8>,
    branches: Vec<Tree>,
}

static NONE: [Param; 0] = [];
static PLAIN: [Param; 3] =
    [Param::new("a", "i64"), Param::new("b", "String"), Param::new("c", "Option<u8>")];
static BYTES: [Param; 5] = [
    Param::new("data", "Bytes"),
    Param::new("more", "Option<Bytes>"),
    Param::new("text", "&str"),
    Param::new("owned", "Vec<u8>"),
    Param::new("borrowed", "&[u8]"),
];
static NESTED: [Param; 4] = [
    Param::new("shape", "Shape"),
    Param::new("map", "BTreeMap<String, Vec<Point>>"),
    Param::new("tree", "Option<Tree>"),
    Param::new("rest", "(u8, char, bool)"),
];

/// Reads params for functions with several kinds of parameters, as the handlers of `#[remote]` do.
fn all_params(body: &Bytes, at: usize) {
    if !body.get(at).copied().is_some_and(msgpack::is_params_marker) {
        return;
    }
    check(Params::new(body, at, &NONE).and_then(Params::finish));
    check(plain(body, at));
    check(bytes(body, at));
    check(nested(body, at));
}

/// Checks that a failure is reported to the caller in a short answer.
fn check<T>(read: Result<T, WireError>) {
    let Err(error) = read else { return };
    assert!(matches!(error.code, Code::BadArguments | Code::BadRequest), "{error:?}");
    assert_eq!(error.ran, Ran::No);
    let refusal = response::error_response(Some(MsgId(7)), &error);
    assert!(refusal.len() < LONGEST_REFUSAL, "{error:?}");
    assert_eq!(
        response::classify(&refusal),
        ServerMessage::Response { id: MsgId(7), failed: true }
    );
    let Some(Err(read)) = response::parse_response(&refusal) else { panic!("{error:?}") };
    assert_eq!((read.ran(), read.message()), (Ran::No, error.message.as_str()));
}

fn plain(body: &Bytes, at: usize) -> Result<(), WireError> {
    let mut params = Params::new(body, at, &PLAIN)?;
    let a = params.next(|reader| Value::<i64>::NEW.decode(reader))?;
    let b = params.next(|reader| Value::<String>::NEW.decode(reader))?;
    let c = params.next(|reader| Value::<Option<u8>>::NEW.decode(reader))?;
    params.finish()?;
    same(&a);
    same(&b);
    same(&c);
    Ok(())
}

fn bytes(body: &Bytes, at: usize) -> Result<(), WireError> {
    let mut params = Params::new(body, at, &BYTES)?;
    let data = params.next(|reader| Value::<Bytes>::NEW.decode(reader))?;
    let more = params.next(|reader| Value::<Option<Bytes>>::NEW.decode(reader))?;
    let text = params.next(|reader| Value::<&str>::NEW.decode(reader))?;
    let owned = params.next(|reader| Value::<Vec<u8>>::NEW.decode(reader))?;
    let borrowed = params.next(|reader| Value::<[u8]>::NEW.decode_slice(reader))?;
    params.finish()?;
    let lengths = [data.len(), more.as_ref().map_or(0, Bytes::len), text.len(), borrowed.len()];
    assert!(lengths.iter().sum::<usize>() <= body.len(), "each is a part of the body");

    let mut writer = Writer::default();
    Value::<Bytes>::NEW.encode(&data, &mut writer).expect("it was decoded");
    Value::<Option<Bytes>>::NEW.encode(&more, &mut writer).expect("it was decoded");
    Value::<str>::NEW.encode(text, &mut writer).expect("it was decoded");
    Value::<Vec<u8>>::NEW.encode(&owned, &mut writer).expect("it was decoded");
    let pair = (text, borrowed);
    Value::<(&str, &[u8])>::NEW.encode_borrowing(&pair, &mut writer).expect("it was decoded");
    let again = Bytes::from(writer.into_buffer());
    let mut reader = Reader::new(&again, &again);
    assert_eq!(reader.shared_bytes().ok().as_ref(), Some(&data));
    assert_eq!(reader.shared_bytes_option().ok(), Some(more));
    assert_eq!(reader.value::<Cow<'_, str>>().ok().as_deref(), Some(text));
    assert_eq!(Value::<Vec<u8>>::NEW.decode(&mut reader).ok(), Some(owned));
    assert_eq!(Value::<(&str, &[u8])>::NEW.decode(&mut reader).ok(), Some(pair));
    assert!(reader.is_at_end());
    Ok(())
}

fn nested(body: &Bytes, at: usize) -> Result<(), WireError> {
    let mut params = Params::new(body, at, &NESTED)?;
    let shape = params.next(|reader| Value::<Shape>::NEW.decode(reader))?;
    let map = params.next(|reader| Value::<BTreeMap<String, Vec<Point>>>::NEW.decode(reader))?;
    let tree = params.next(|reader| Value::<Option<Tree>>::NEW.decode(reader))?;
    let rest = params.next(|reader| Value::<(u8, char, bool)>::NEW.decode(reader))?;
    params.finish()?;
    same(&shape);
    same(&map);
    same(&rest);
    // The tree is not compared. It may have arrived as arrays, and its encoding as maps can be
    // nested too deeply to be decoded again.
    drop(tree);
    Ok(())
}

/// Checks that a decoded value is the same after it was encoded and decoded again.
fn same<T: Serialize + for<'de> Deserialize<'de> + PartialEq + Debug>(value: &T) {
    let bytes = codec::to_vec(value).expect("it was decoded");
    let again: Result<T, DecodeError> = codec::from_slice(&bytes);
    assert_eq!(again.as_ref().ok(), Some(value), "{again:?}");
    let mut rest: &[u8] = &bytes;
    assert_eq!(msgpack::skip_value(&mut rest), Some(()));
    assert!(rest.is_empty());
}

#[cfg(test)]
#[path = "fuzz/tests.rs"]
mod tests;
