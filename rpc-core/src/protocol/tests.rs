//! Round trips of every kind of message, and invalid bytes.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::{
    codec,
    error::{ErrorKind, Ran},
    protocol::{
        error::{Code, WireError},
        msgpack::*,
        outgoing::EncodedArgs,
        request::*,
        response::*,
    },
};

fn request(timeout_ms: Option<u32>) -> Bytes {
    EncodedArgs::dynamic("add".to_owned(), &(1, 2)).into_message(Head::Request {
        id: MsgId(7),
        timeout_ms,
        options: None,
    })
}

#[test]
fn request_round_trips() {
    for (timeout_ms, timeout) in [(None, None), (Some(250), Some(Duration::from_millis(250)))] {
        let body = request(timeout_ms);
        let Ok(ClientMessage::Request(request)) = parse(&body) else { panic!("{body:?}") };
        assert_eq!((request.id, request.method, request.timeout), (MsgId(7), "add", timeout));
        assert_eq!(&body[request.params_at..], b"\x92\x01\x02");
    }
}

#[test]
fn fast_path_agrees_with_the_full_parser() {
    let head =
        Head::Request { id: MsgId(0x0102_0304), timeout_ms: Some(0x0506_0708), options: None };
    for method in [String::new(), "add".to_owned(), "é".repeat(15), "x".repeat(32), "x".repeat(255)]
    {
        let body = EncodedArgs::dynamic(method, &(1, 2)).into_message(head);
        assert!(parse_plain(&body).is_some());
        assert_eq!(parse(&body), parse_any(&body));
        for cut in 0..body.len() {
            assert_eq!(parse(&body[..cut]), parse_any(&body[..cut]));
            let mut changed = body.to_vec();
            for bit in 0..8 {
                changed[cut] = body[cut] ^ 1 << bit;
                assert_eq!(parse(&changed), parse_any(&changed), "{changed:x?}");
            }
        }
    }
}

#[test]
fn msgid_of_any_width_is_accepted() {
    for id in [
        &b"\x07"[..],
        b"\xcc\x07",
        b"\xcd\0\x07",
        b"\xce\0\0\0\x07",
        b"\xcf\0\0\0\0\0\0\0\x07",
        b"\xd0\x07",
    ] {
        let body = [b"\x94\x00", id, b"\xa1f\x90"].concat();
        let Ok(ClientMessage::Request(request)) = parse(&body) else { panic!("{id:?}") };
        assert_eq!(request.id, MsgId(7));
    }
    for id in [&b"\xff"[..], b"\xcf\0\0\0\x01\0\0\0\0", b"\xc0", b"\xa17", b"\xcb\0\0\0\0\0\0\0\0"]
    {
        let body = [b"\x94\x00", id, b"\xa1f\x90"].concat();
        assert!(matches!(parse(&body), Err(Malformed::Request(None, _))), "{id:?}");
    }
}

#[test]
fn method_of_any_length_round_trips() {
    for len in [0, 31, 32, 255, 256, 65_535, 65_536] {
        let method = "x".repeat(len);
        for head in [
            Head::NOTIFICATION,
            Head::request(MsgId(u32::MAX)),
            Head::Request { id: MsgId(0), timeout_ms: Some(u32::MAX), options: None },
        ] {
            let body = EncodedArgs::dynamic(method.clone(), &()).into_message(head);
            match parse(&body).unwrap() {
                ClientMessage::Request(request) => assert_eq!(request.method, method),
                ClientMessage::Notification(notification) => {
                    assert_eq!(notification.method, method);
                }
            }
        }
    }
}

#[test]
fn unknown_options_pass_and_wrong_ones_fail() {
    let with = |options: &[u8]| [b"\x95\x00\x07\xa1f", options, b"\x90"].concat();
    let unknown = with(b"\x83\xa1a\x93\x01\x81\xa1b\xc0\xc4\x02xx\xaatimeout_ms\x05\xa5trace\xa1t");
    let Ok(ClientMessage::Request(request)) = parse(&unknown) else { panic!() };
    assert_eq!(request.timeout, Some(Duration::from_millis(5)));
    for wrong in [
        &b"\x90"[..],
        b"\x81\x01\x01",
        b"\x81\xaatimeout_ms\xff",
        b"\x81\xaatimeout_ms\xc0",
        b"\xdf\xff\xff\xff\xff",
    ] {
        assert!(
            matches!(parse(&with(wrong)), Err(Malformed::Request(Some(MsgId(7)), _))),
            "{wrong:?}"
        );
    }
}

#[test]
fn key_is_text_or_bin_of_1_to_64_bytes() {
    let with =
        |key: &[u8]| [b"\x95\x00\x07\xa1f\x82\xaatimeout_ms\x05\xa3key", key, b"\x90"].concat();
    let long = [&b"\xd9\x40"[..], &[b'x'; 64]].concat();
    for (key, expected) in
        [(&b"\xa2ab"[..], &b"ab"[..]), (b"\xc4\x02\x00\xff", b"\x00\xff"), (&long, &[b'x'; 64])]
    {
        let body = with(key);
        let Ok(ClientMessage::Request(request)) = parse(&body) else { panic!("{key:?}") };
        assert_eq!(request.options.unwrap().key, Some(expected));
        assert_eq!(request.timeout, Some(Duration::from_millis(5)));
    }
    let too_long = [&b"\xc4\x41"[..], &[b'x'; 65]].concat();
    for key in
        [&b"\xa0"[..], b"\xc4\x00", b"\xc0", b"\x05", b"\x90", b"\xc6\xff\xff\xff\xff", &too_long]
    {
        assert!(matches!(parse(&with(key)), Err(Malformed::Request(Some(MsgId(7)), _))), "{key:?}");
    }
    let body = request(Some(250));
    let Ok(ClientMessage::Request(request)) = parse(&body) else { panic!() };
    assert_eq!(request.options, None);
}

#[test]
fn response_is_copied_for_another_request() {
    let error = WireError::new(Code::Failed, Ran::Yes, "no");
    for make in [&|id| response(id, b"\x2a") as Bytes, &|id| error_response(Some(id), &error)]
        as [&dyn Fn(MsgId) -> Bytes; 2]
    {
        assert_eq!(with_id(&make(MsgId(7)), MsgId(u32::MAX - 1)), make(MsgId(u32::MAX - 1)));
    }
}

#[test]
fn truncated_message_is_refused() {
    let body = request(Some(250));
    for len in 0..body.len() - 3 {
        assert!(matches!(parse(&body[..len]), Err(Malformed::Request(..))), "{len}");
    }
    let body = EncodedArgs::dynamic("add".to_owned(), &(1, 2)).into_message(Head::NOTIFICATION);
    for len in 2..body.len() - 3 {
        assert!(matches!(parse(&body[..len]), Err(Malformed::Notification(_))), "{len}");
    }
}

#[test]
fn malformed_notification_is_recognized() {
    for body in [
        &b"\x93\x02\xc0\x90"[..],
        b"\x93\x02\xa1f\xc0",
        b"\x92\x02\xa1f",
        b"\x95\x02\xa1f\x80\x90\xc0",
    ] {
        assert!(matches!(parse(body), Err(Malformed::Notification(_))), "{body:?}");
    }
}

#[test]
fn every_kind_of_value_is_skipped() {
    let values: [&[u8]; 20] = [
        b"\xc0",
        b"\xc2",
        b"\x7f",
        b"\xe0",
        b"\xcc\x01",
        b"\xd1\0\x01",
        b"\xca\0\0\0\0",
        b"\xcb\0\0\0\0\0\0\0\0",
        b"\xa3abc",
        b"\xd9\x01a",
        b"\xda\0\x01a",
        b"\xc4\x02ab",
        b"\xc5\0\x01a",
        b"\xd4\x01a",
        b"\xc7\x02\x01ab",
        b"\x92\x01\x91\xc0",
        b"\xdc\0\x01\xc0",
        b"\x82\xa1a\x01\xa1b\x92\x01\x02",
        b"\xde\0\x01\x01\x02",
        b"\xdd\0\0\0\x01\xdf\0\0\0\x01\x01\x02",
    ];
    for value in values {
        let followed = [value, b"\x2a"].concat();
        let mut rest = followed.as_slice();
        skip_value(&mut rest).unwrap();
        assert_eq!(rest, b"\x2a", "{value:?}");
        for cut in 0..value.len() {
            assert!(skip_value(&mut &value[..cut]).is_none(), "{value:?} cut to {cut}");
        }
    }
    assert!(skip_value(&mut &b"\xc1"[..]).is_none());
    assert!(skip_value(&mut vec![0x91; 1_000_000].as_slice()).is_none());
}

#[test]
fn only_well_formed_params_are_counted() {
    assert_eq!(count_params(b"\x90"), Some(0));
    assert_eq!(count_params(b"\x92\x01\x02"), Some(2));
    assert_eq!(count_params(b"\x81\xa1a\x01"), Some(1));
    assert_eq!(count_params(b"\x92\x01"), None);
    assert_eq!(count_params(b"\x90\x01"), None);
    assert_eq!(count_params(b"\x01"), None);
}

#[test]
fn response_round_trips() {
    let body = response(MsgId(9), b"\x2a");
    assert_eq!(classify(&body), ServerMessage::Response { id: MsgId(9), failed: false });
    let range = parse_response(&body).unwrap().unwrap();
    assert_eq!(&body[range], b"\x2a");
}

#[test]
fn info_after_the_result_is_ignored() {
    let body = Bytes::from_static(b"\x95\x01\x09\xc0\x2a\x80");
    let range = parse_response(&body).unwrap().unwrap();
    assert_eq!(&body[range], b"\x2a");
}

#[test]
fn error_round_trips() {
    let mut error = WireError::new(Code::Failed, Ran::Yes, "no");
    error.data = Some(codec::to_vec(&"data").unwrap());
    let body = error_response(Some(MsgId(9)), &error);
    let read = parse_response(&body).unwrap().unwrap_err();
    assert_eq!((read.kind(), read.ran(), read.message()), (ErrorKind::Failed, Ran::Yes, "no"));
    assert_eq!(read.data::<String>().unwrap(), "data");

    let body = error_response(None, &WireError::new(Code::BadRequest, Ran::No, "what?"));
    assert_eq!(classify(&body), ServerMessage::Other, "the id is nil");
}

#[test]
fn error_without_data_has_none() {
    let body = error_response(Some(MsgId(9)), &WireError::new(Code::Failed, Ran::Yes, "no"));
    let read = parse_response(&body).unwrap().unwrap_err();
    // Any error could be decoded to a map.
    assert_eq!(read.data::<std::collections::BTreeMap<String, String>>(), None);
}

#[test]
fn sizes_and_retry_after_round_trip() {
    let read = |error: &WireError| {
        parse_response(&error_response(Some(MsgId(9)), error)).unwrap().unwrap_err()
    };
    let too_large = WireError::too_large("reply", Ran::Yes, 1_001, 1_000);
    assert_eq!(read(&too_large).kind(), ErrorKind::TooLarge { size: 1_001, limit: 1_000 });
    let without_sizes = WireError::new(Code::TooLarge, Ran::No, "no sizes");
    assert_eq!(read(&without_sizes).kind(), ErrorKind::TooLarge { size: 0, limit: 0 });
    let odd = WireError { data: Some(codec::to_vec(&"odd").unwrap()), ..without_sizes };
    assert_eq!(read(&odd).kind(), ErrorKind::TooLarge { size: 0, limit: 0 });

    let overloaded = read(&WireError::overloaded("later", Duration::from_millis(250)));
    assert_eq!((overloaded.kind(), overloaded.ran()), (ErrorKind::Overloaded, Ran::No));
    assert_eq!(overloaded.retry_after(), Some(Duration::from_millis(250)));
}

#[test]
fn plain_messagepack_rpc_errors_are_understood() {
    for (error, message) in [
        (&b"\xa4oops"[..], "oops"),
        (b"\x05", "the peer answered with an error"),
        (b"\x81\xa4code\x05", "the peer answered with an error"),
    ] {
        let body = Bytes::from([b"\x94\x01\x09", error, b"\xc0"].concat());
        let read = parse_response(&body).unwrap().unwrap_err();
        assert_eq!((read.kind(), read.message()), (ErrorKind::Remote, message));
        assert_eq!(read.ran(), Ran::Maybe);
    }
}

#[test]
fn client_ignores_unknown_bodies() {
    for body in [
        &b""[..],
        b"\xc0",
        b"\x90",
        b"\x94\x01\xa1x\xc0\xc0",
        b"\x93\x02\xa8rpc.item\x90",
        b"\x94\x00\x01\xa1f\x90",
    ] {
        assert_eq!(classify(body), ServerMessage::Other, "{body:?}");
    }
    for body in [&b"\x94\x01\x09\xc0"[..4], b"\x93\x01\x09\xc0", b"\x94\x01\x09\x81\xa4code"] {
        if let Some(Ok(range)) = parse_response(&Bytes::copy_from_slice(body)) {
            assert!(range.is_empty(), "{body:?}");
        }
    }
}
