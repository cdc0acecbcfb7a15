//! The server returns the frames in front of a body unchanged.

use std::sync::Arc;

use bytes::Bytes;
use tests::RawClient;

use crate::{contains, server};

const REQUEST: &[u8] = b"\x94\x00\x01\xa3add\x92\x01\x02";
const RESPONSE: &[u8] = b"\x94\x01\xce\0\0\0\x01\xc0\x03";

#[tokio::test]
async fn every_envelope_comes_back_verbatim() {
    let server = server(&Arc::default()).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let mut peer = RawClient::connect(server.endpoint()).await;
    let envelopes: [&[&[u8]]; 6] = [
        &[],
        &[b""],
        &[b"\0\0\0\x01", b""],
        &[b"client behind a proxy", b""],
        &[b"a", b"b", b"\x01", b""],
        &[b"forwarded"],
    ];
    for envelope in envelopes {
        peer.send(&[envelope, &[REQUEST]].concat()).await;
        let reply = peer.recv().await;
        let expected: Vec<Bytes> =
            [envelope, &[RESPONSE]].concat().into_iter().map(Bytes::copy_from_slice).collect();
        assert_eq!(reply, expected);
    }
    server.shutdown().await;
}

#[tokio::test]
async fn probes_are_ignored_extra_frames_refused() {
    let server = server(&Arc::default()).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let mut peer = RawClient::connect(server.endpoint()).await;
    peer.send(&[b""]).await;
    peer.send(&[b"", REQUEST, b"attachment"]).await;
    let reply = peer.recv().await;
    assert_eq!(reply.len(), 2);
    assert!(contains(&reply[1], "bad_request"), "{reply:?}");
    peer.send(&[b"id", b""]).await;
    let reply = peer.recv().await;
    assert_eq!((reply.len(), &reply[0][..]), (3, &b"id"[..]));
    assert!(contains(&reply[2], "bad_request"), "{reply:?}");
    assert_eq!(peer.ask(REQUEST).await, RESPONSE);
    server.shutdown().await;
}
