//! Invalid bytes: each kind has a defined answer, and the server continues.

use std::sync::Arc;

use rpc_core::{ErrorKind, Ran};
use tests::{Gate, RawClient, RawServer, soon};
use zeromq::{ReqSocket, Socket, SocketRecv, SocketSend};

use crate::{add, contains, echo, server};

#[tokio::test]
async fn malformed_messages_are_answered_or_ignored() {
    let server = server(&Arc::default()).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let mut peer = RawClient::connect(server.endpoint()).await;
    let deep = [b"\x94\x00\x07\xa3add\x91".as_slice(), &vec![0x91; 100_000]].concat();
    let deep_options = [b"\x95\x00\x07\xa3add\x81\xa1x".as_slice(), &vec![0x91; 100_000]].concat();
    let too_many = [b"\xdc\x04\x02\x03".as_slice(), &b"\xc4\x00".repeat(1_025)].concat();
    let too_long = [b"\x92\x03\xc5\xff\xff".as_slice(), &vec![0; 65_535]].concat();
    let pairs = [
        b"\x95\x00\x07\xa3add\x81\xa4meta\xde\x00\x21".as_slice(),
        &b"\xa0\xa0".repeat(33),
        b"\x92\x01\x02",
    ]
    .concat();
    let answered: [(&[u8], &str); 32] = [
        (b"", "bad_request"),
        (b"\x00", "bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", "bad_request"),
        (b"\x94\x00", "bad_request"),
        (b"\x94\x03\x07\xa3add\x90", "bad_request"),
        (b"\x94\x01\x07\xc0\x01", "bad_request"),
        (b"\x93\x00\x07\xa3add", "bad_request"),
        (b"\x96\x00\x07\xa3add\x80\x90\xc0", "bad_request"),
        (b"\x94\x00\xff\xa3add\x90", "bad_request"),
        (b"\x94\x00\x07\xa2\xff\xfe\x90", "bad_request"),
        (b"\x95\x00\x07\xa3add\x90\x90", "bad_request"),
        (&deep_options, "bad_request"),
        (&pairs, "bad_request"),
        (b"\x95\x00\x07\xa3add\x81\xa4meta\xc0\x92\x01\x02", "bad_request"),
        (b"\x95\x00\x07\xa3add\x81\xa4meta\x81\x01\xa0\x92\x01\x02", "bad_request"),
        (b"\x95\x00\x07\xa3add\x81\xa4meta\x81\xa0\xff\x92\x01\x02", "bad_request"),
        (b"\x95\x00\x07\xa3add\x81\xa5trace\xc1\x92\x01\x02", "bad_request"),
        (b"\x95\x00\x07\xa3add\x81\xa6stream\xff\x92\x01\x02", "bad_request"),
        (b"\x95\x00\x07\xa3add\x81\xa6stream\xa0\x92\x01\x02", "bad_request"),
        (b"\x94\x00\x07\xa3add\x92\x01\x02\xc0", "bad_request"),
        (b"\x94\x00\x07\xa3add\x92\x01", "bad_arguments"),
        (b"\x94\x00\x07\xa3add\x92\x01\xa1x", "bad_arguments"),
        (b"\x94\x00\x07\xa3add\xdd\xff\xff\xff\xff", "bad_arguments"),
        (&deep, "bad_arguments"),
        (b"\x94\x00\x07\xa0\x90", "unknown_function"),
        (b"\x92\x03\xa1x", "bad_request"),
        (b"\x92\x03\xc4\x02\x91\x03", "bad_request"),
        (b"\x91\x03\xc0", "bad_request"),
        (b"\xdd\xff\xff\xff\xff\x03", "bad_request"),
        (b"\xdc\x00\x00\x03", "bad_request"),
        (&too_many, "bad_request"),
        (&too_long, "bad_request"),
    ];
    for (body, code) in answered {
        let reply = peer.ask(body).await;
        let shown = &body[..body.len().min(40)];
        assert!(contains(&reply, code), "{shown:?}: {}", String::from_utf8_lossy(&reply));
        assert!(contains(&reply, "ran\u{0}".trim_end_matches('\0')), "{shown:?}");
    }
    // What is no `traceparent` is ignored.
    for trace in [&b"\xc0"[..], b"\xc4\x02\xff\xfe", b"\xa3abc", b"\x92\x01\x91\xff", b"\xa0"] {
        let body = [b"\x95\x00\x07\xa3add\x81\xa5trace", trace, b"\x92\x01\x02"].concat();
        let reply = peer.ask(&body).await;
        assert_eq!(reply, &b"\x94\x01\xce\0\0\0\x07\xc0\x03"[..], "{trace:?}");
    }
    let ignored: [&[u8]; 20] = [
        b"\x94\x02\xa3add\x81\xa4meta\xc0\x92\x01\x02",
        b"\x93\x02\xc0\x90",
        b"\x93\x02\xa3add\x91\x01",
        b"\x93\x02\xa7missing\x90",
        b"\x93\x02\xaarpc.cancel\x91\xa1x",
        b"\x93\x02\xaarpc.cancel\x91\x63",
        b"\x94\x02\xa8rpc.item\x80\x90",
        b"\x93\x02\xa8rpc.item\x92\x63\x01",
        b"\x93\x02\xa8rpc.item\x91\x63",
        b"\x93\x02\xa8rpc.item\xdd\xff\xff\xff\xff\x63\x01\x02",
        b"\x93\x02\xa8rpc.item\x92\xff\x01",
        b"\x93\x02\xaarpc.credit\x90",
        b"\x93\x02\xaarpc.credit\x91\x63",
        b"\x93\x02\xaarpc.credit\x92\x63\xff",
        b"\x93\x02\xaarpc.credit\x92\x63\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x93\x02\xaarpc.window\x90",
        b"\x93\x02\xaarpc.window\x91\x83\xa6number\xff\xa5calls\x02\xa5bytes\x02",
        b"\x93\x02\xaarpc.window\x91\x83\xa6number\x00\xa5calls\x02\xa5bytes\x02",
        b"\x91\x03",
        b"\x92\x03\xc4\x0b\x93\x02\xa7missing\x90",
    ];
    for body in ignored {
        peer.send(&[b"", body]).await;
    }
    // The server answers none of these messages: the next reply belongs to the next request.
    assert_eq!(
        peer.ask(b"\x94\x00\x09\xa3add\x92\x01\x02").await,
        &b"\x94\x01\xce\0\0\0\x09\xc0\x03"[..]
    );
    server.shutdown().await;
}

#[tokio::test]
async fn credit_without_measure_ends_its_stream() {
    let server = server(&Arc::default()).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let mut peer = RawClient::connect(server.endpoint()).await;
    let most = b"\x93\x02\xaarpc.credit\x92\x07\xcf\x7f\xff\xff\xff\xff\xff\xff\xff";
    // Without credit, the function waits for it.
    let waits = b"\x95\x00\x07\xa7numbers\x81\xa6stream\x00\x91\x03";
    peer.send(&[b"", waits]).await;
    peer.send(&[b"", b"\x93\x02\xaarpc.credit\x92\x07\xcf\xff\xff\xff\xff\xff\xff\xff\xff"]).await;
    let reply = peer.recv().await;
    assert!(contains(&reply[1], "bad_request") && contains(&reply[1], "too much credit"));
    peer.send(&[b"", waits]).await;
    for _ in 0..3 {
        peer.send(&[b"", most]).await;
    }
    // It got its items, before or after the credit was too much.
    let mut items = 0;
    loop {
        let message = peer.recv().await;
        if message[1].starts_with(b"\x94") {
            break;
        }
        items += 1;
    }
    assert!(items <= 3);
    // A function that returns no stream is called as ever.
    let sum = peer.ask(b"\x95\x00\x08\xa3add\x81\xa6stream\x05\x92\x01\x02").await;
    assert_eq!(sum, &b"\x94\x01\xce\0\0\0\x08\xc0\x03"[..]);
    server.shutdown().await;
}

#[tokio::test]
async fn wrong_items_end_their_call() {
    const ITEM: &[u8] = b"\x93\x02\xa8rpc.item\x92\x07\x05";
    const END: &[u8] = b"\x93\x02\xa8rpc.item\x91\x07";
    let gate = Arc::<Gate>::default();
    let server = server(&gate).max_message_size(100_000).bind("tcp://127.0.0.1:0").await.unwrap();
    let server = server.spawn().unwrap();
    let mut peer = RawClient::connect(server.endpoint()).await;
    let value = |value: &[u8]| [&b"\x93\x02\xa8rpc.item\x92\x07"[..], value].concat();
    // Longer than the first window of the server, so that nothing may follow.
    let long = value(&[&b"\xc5\x40\x00"[..], &vec![0; 0x4000]].concat());
    let too_large = value(&[&b"\xc6\x00\x01\x86\xa0"[..], &vec![0; 100_000]].concat());
    let (text, negative, nothing, two) =
        (value(b"\xa1x"), value(b"\xff"), value(b""), value(b"\x05\x05"));
    // The function takes its items at once (`total`), or not before the end (`later`).
    let cases: [(&str, &[&[u8]], &str); 8] = [
        ("total", &[&text], "does not decode"),
        ("total", &[&negative], "does not decode"),
        ("total", &[&nothing], "does not decode"),
        ("total", &[&two], "does not decode"),
        ("later", &[&long, ITEM], "bad_request"),
        ("later", &[&too_large], "bad_request"),
        ("later", &[END, ITEM], "bad_request"),
        ("later", &[END, END], "bad_request"),
    ];
    for (function, messages, expected) in cases {
        let begin = [b"\x94\x00\x07\xa5", function.as_bytes(), b"\x91\xc0"].concat();
        assert!(contains(&peer.ask(&begin).await, "rpc.credit"));
        for message in messages {
            peer.send(&[b"", message]).await;
        }
        let reply = peer.recv().await;
        let shown = String::from_utf8_lossy(&reply[1]);
        assert!(contains(&reply[1], expected), "{function} {messages:.40?}: {shown}");
        assert!(contains(&reply[1], "yes"), "{shown}");
    }
    // Before the function has begun: the only worker is busy.
    peer.send(&[b"", b"\x94\x00\x01\xa4hold\x90"]).await;
    gate.entered(1).await;
    for early in [ITEM, END] {
        peer.send(&[b"", b"\x94\x00\x07\xaatotal_sync\x91\xc0"]).await;
        let reply = peer.ask(early).await;
        assert!(contains(&reply, "bad_request") && contains(&reply, "before the function started"));
    }
    gate.open();
    peer.recv().await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_req_socket_that_sends_nonsense_can_go_on() {
    let server = server(&Arc::default()).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let mut req = ReqSocket::new();
    req.connect(server.endpoint()).await.unwrap();
    for _ in 0..3 {
        req.send("nonsense".into()).await.unwrap();
        let reply = soon("an answer", req.recv()).await.unwrap();
        assert!(contains(&reply.get(0).unwrap()[..], "bad_request"));
    }
    req.send(b"\x94\x00\x01\xa3add\x92\x01\x02".to_vec().into()).await.unwrap();
    let reply = soon("an answer", req.recv()).await.unwrap();
    assert_eq!(reply.get(0).unwrap()[..], b"\x94\x01\xce\0\0\0\x01\xc0\x03"[..]);
    server.shutdown().await;
}

#[tokio::test]
async fn peer_vanishing_mid_call_harms_nobody() {
    let gate: Arc<Gate> = Arc::default();
    let server = server(&gate).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    for _ in 0..20 {
        let mut peer = RawClient::connect(server.endpoint()).await;
        peer.send(&[b"", b"\x94\x00\x01\xa4hold\x90"]).await;
        gate.entered(1).await;
        drop(peer);
        // The server has one worker: the next call can start only if this one was cancelled.
        gate.left(1).await;
    }
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
    server.shutdown().await;
}

#[tokio::test]
async fn garbage_does_not_harm_good_calls() {
    let server = server(&Arc::default()).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let endpoint = server.endpoint().to_owned();
    let hostile = tokio::spawn(async move {
        let mut peer = RawClient::connect(&endpoint).await;
        let good = b"\x95\x00\x07\xa4echo\x81\xaatimeout_ms\xcd\x03\xe8\x91\xc4\x04data".to_vec();
        // Pseudo-random single-byte changes that are the same in every run.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).expect("31 bits fit") % below
        };
        for _ in 0..20_000 {
            let mut body = good.clone();
            for _ in 0..=random(3) {
                let at = random(body.len());
                body[at] = u8::try_from(random(256)).expect("below 256");
            }
            body.truncate(1 + random(body.len()));
            peer.send(&[b"", &body]).await;
        }
        // The server reads everything, and still serves the peer.
        peer.send(&[b"", b"\x94\x00\xce\xff\xff\xff\xff\xa3add\x92\x01\x02"]).await;
        while peer.recv().await[1] != b"\x94\x01\xce\xff\xff\xff\xff\xc0\x03"[..] {}
    });
    while !hostile.is_finished() {
        let data = bytes::Bytes::from_static(b"unharmed");
        assert_eq!(echo::call(&client, data.clone()).await.unwrap(), data);
    }
    soon("the hostile peer", hostile).await.unwrap();
    server.shutdown().await;
}

#[tokio::test]
async fn client_survives_a_hostile_server() {
    let mut peer = RawServer::bind().await;
    let client = tests::client().connect_lazy(&peer.endpoint).unwrap();
    let [identity, _, hello] = peer.recv().await;
    peer.send(&identity, b"nonsense").await;
    peer.send(&identity, &[b"\x94\x01", &hello[2..7], b"\xa7unknown\xc0"].concat()).await;

    let replies: [(&[u8], ErrorKind, Ran); 7] = [
        (b"\xc0\xa1x", ErrorKind::Protocol, Ran::Yes),
        (b"\xc0", ErrorKind::Protocol, Ran::Yes),
        (b"\xc0\x01\x02", ErrorKind::Protocol, Ran::Yes),
        (b"\x91", ErrorKind::Protocol, Ran::Maybe),
        (b"\xa4oops\xc0", ErrorKind::Remote, Ran::Maybe),
        (b"\x81\xa4code\xaanew_reason\xc0", ErrorKind::Remote, Ran::Maybe),
        (b"\x82\xa4code\xaaoverloaded\xa3ran\xa2no\xc0", ErrorKind::Overloaded, Ran::No),
    ];
    for (outcome, kind, ran) in replies {
        let call = tokio::spawn(add::call(&client, 1, 2).retries(0));
        let [identity, _, request] = peer.recv().await;
        // The client ignores replies to unknown ids, requests, notifications and garbage.
        for noise in [
            &b""[..],
            b"\xc1",
            b"\x94\x01\xce\xff\xff\xff\xff\xc0\x01",
            b"\x94\x00\x01\xa3add\x90",
            b"\x93\x02\xa8rpc.item\x90",
            b"\x91\x03",
            b"\x92\x03\xa1x",
            b"\x93\x03\xc4\x01\xc1\xc4\x05\x94\x01",
        ] {
            peer.send(&identity, noise).await;
        }
        peer.send(&identity, &[b"\x94\x01", &request[2..7], outcome].concat()).await;
        let error = soon("the call", call).await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.ran()), (kind, ran), "{outcome:?}: {error}");
    }
    // A single reply, and a reply in a batch that is truncated after it.
    for (before, after) in [(&b""[..], &b""[..]), (b"\x94\x03\xc4\x09", b"\xc4\x02\xc1\xc1\xc4")] {
        let call = tokio::spawn(add::call(&client, 1, 2));
        let [identity, _, request] = peer.recv().await;
        peer.send(&identity, &[before, b"\x94\x01", &request[2..7], b"\xc0\x03", after].concat())
            .await;
        assert_eq!(soon("the call", call).await.unwrap().unwrap(), 3);
    }
}
