//! Property tests of the protocol, with random messages and random bytes.

use std::time::Duration;

use proptest::{collection::vec, option, prelude::*};
use serde::Serializer;

use super::*;
use crate::{
    error::ErrorKind,
    protocol::{outgoing::EncodedArgs, request::Options},
};

/// Any MessagePack value except extensions.
#[derive(Debug, Clone)]
enum Any {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Short(f32),
    Text(String),
    Bytes(Vec<u8>),
    Array(Vec<Any>),
    Map(Vec<(Any, Any)>),
}

impl Serialize for Any {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nil => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Short(value) => serializer.serialize_f32(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Bytes(value) => serializer.serialize_bytes(value),
            Self::Array(values) => serializer.collect_seq(values),
            Self::Map(entries) => {
                serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
            }
        }
    }
}

fn any_value() -> impl Strategy<Value = Any> {
    let leaf = prop_oneof![
        Just(Any::Nil),
        any::<bool>().prop_map(Any::Bool),
        any::<u64>().prop_map(Any::Unsigned),
        any::<i64>().prop_map(Any::Signed),
        any::<f64>().prop_map(Any::Float),
        any::<f32>().prop_map(Any::Short),
        ".{0,40}".prop_map(Any::Text),
        vec(any::<u8>(), 0..300).prop_map(Any::Bytes),
    ];
    leaf.prop_recursive(6, 64, 20, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..20).prop_map(Any::Array),
            vec((inner.clone(), inner), 0..10).prop_map(Any::Map),
        ]
    })
}

fn any_head() -> impl Strategy<Value = Head<'static>> {
    const KEYS: [&[u8]; 2] = [b"k", &[0xff; 64]];
    let options = (option::of(0..KEYS.len()), option::of(any::<u64>()), any::<[bool; 4]>())
        .prop_map(|(key, stream, [instance, params, meta, trace])| {
            let options = Options {
                key: key.map(|key| KEYS[key]),
                instance: instance.then_some("0123456789abcdef"),
                params: params.then_some(b"\x92\xa1a\xa2to"),
                meta: meta.then_some(b"\x82\xa1a\xa2to\xa1b\xc4\x01\xff"),
                trace: trace.then_some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
                stream,
            };
            // A head borrows its options.
            (options != Options::NONE).then(|| &*Box::leak(Box::new(options)))
        });
    prop_oneof![
        options.clone().prop_map(Head::Notification),
        any::<u32>().prop_map(|id| Head::request(MsgId(id))),
        (any::<u32>(), any::<u32>(), options).prop_map(|(id, timeout_ms, options)| {
            Head::Request { id: MsgId(id), timeout_ms: Some(timeout_ms), options }
        }),
    ]
}

proptest! {
    #[test]
    fn message_round_trips(method in ".{0,300}", head in any_head(), params in vec(any_value(), 0..6)) {
        let body = EncodedArgs::dynamic(method.clone(), &params).into_message(head);
        let params = codec::to_vec(&params).unwrap();
        let params_at = match (request::parse(&body).unwrap(), head) {
            (ClientMessage::Request(request), Head::Request { id, timeout_ms, options }) => {
                let timeout = timeout_ms.map(|timeout| Duration::from_millis(timeout.into()));
                prop_assert_eq!((request.id, request.method, request.timeout), (id, &*method, timeout));
                prop_assert_eq!(request.options.as_deref(), options);
                request.params_at
            }
            (ClientMessage::Notification(notification), Head::Notification(options)) => {
                prop_assert_eq!(notification.method, &method);
                prop_assert_eq!(notification.options.as_deref(), options);
                notification.params_at
            }
            (read, _) => panic!("{read:?}"),
        };
        prop_assert_eq!(&body[params_at..], params);
        decode(&body);
    }

    #[test]
    fn only_a_whole_value_is_skipped(value in any_value(), behind in vec(any::<u8>(), 0..4)) {
        let mut bytes = codec::to_vec(&value).unwrap();
        let len = bytes.len();
        for cut in (0..len).rev().take(64) {
            prop_assert_eq!(msgpack::skip_value(&mut &bytes[..cut]), None);
        }
        bytes.extend(&behind);
        let mut rest = &bytes[..];
        prop_assert_eq!(msgpack::skip_value(&mut rest), Some(()));
        prop_assert_eq!(rest, behind);
        decode(&bytes);
    }

    #[test]
    fn error_round_trips(message in ".{0,200}", data in option::of(".{0,40}"), id in any::<u32>()) {
        let mut error = WireError::new(Code::Failed, Ran::Yes, message.clone());
        error.data = data.as_ref().map(|data| codec::to_vec(data).unwrap());
        let body = response::error_response(Some(MsgId(id)), &error);
        prop_assert_eq!(response::classify(&body), ServerMessage::Response { id: MsgId(id), failed: true });
        let Some(Err(read)) = response::parse_response(&body) else { panic!("{body:?}") };
        prop_assert_eq!((read.kind(), read.ran()), (ErrorKind::Failed, Ran::Yes));
        if !message.is_empty() {
            prop_assert_eq!(read.message(), message);
        }
        prop_assert_eq!(read.data::<String>(), data);
        decode(&body);
    }

    #[test]
    fn params_by_name_equal_params_by_position(a in any::<i64>(), b in ".{0,40}", c in option::of(any::<u8>())) {
        let read = |body: Vec<u8>| {
            let body = Bytes::from(body);
            let mut params = Params::new(&body, 0, &PLAIN).unwrap();
            let read: (i64, String, Option<u8>) =
                (params.next(Reader::value).unwrap(), params.next(Reader::value).unwrap(), params.next(Reader::value).unwrap());
            params.finish().unwrap();
            read
        };
        let named = BTreeMap::from([
            ("c", c.map_or(Any::Nil, |c| Any::Unsigned(c.into()))),
            ("b", Any::Text(b.clone())),
            ("a", Any::Signed(a)),
        ]);
        prop_assert_eq!(read(codec::to_vec(&named).unwrap()), (a, b.clone(), c));
        prop_assert_eq!(read(codec::to_vec(&(a, &b, c)).unwrap()), (a, b, c));
    }

    #[test]
    fn random_bytes_break_no_invariant(noise in vec(any::<u8>(), 0..400)) {
        decode(&noise);
    }

    #[test]
    fn random_bytes_after_a_head_are_handled(
        head in any_head(),
        noise in vec(any::<u8>(), 0..200),
    ) {
        let mut body = message_of("add", head, &[]);
        body.extend(&noise);
        decode(&body);
        decode(&[&response::response_head(MsgId(1))[..], &noise].concat());
        decode(&[&response::response_head(MsgId(1))[..7], &noise].concat());
    }
}
