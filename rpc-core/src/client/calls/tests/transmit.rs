//! Tests of the bodies that a link sends.

use super::*;

#[test]
fn small_messages_share_bodies_in_order() {
    let (mut tested, links) = Tested::linked(1);
    let text = |len| ("x".repeat(len),);
    // The longest text whose request both sides accept.
    let long = 1_000 - b"\x91\xda..".len() - request::max_head_len("f");
    let lengths = [1, 2, long, 3, 4];
    let ids = lengths.map(|len| tested.submit_args(plain(), &text(len)).unwrap());
    let bodies = tested.take_bodies(links[0], 256);
    let kinds: Vec<_> =
        bodies.iter().map(|body| batch::unpack(body).map(Iterator::count)).collect();
    assert_eq!(kinds, [Some(5)]);
    assert_eq!(sent_ids(&bodies), ids);

    // A single message is not sent as a batch. A peer without support for batches gets none.
    tested.submit(plain());
    assert!(batch::unpack(&tested.take_bodies(links[0], 256)[0]).is_none());
    let mut tested = Tested::new(1);
    let link = tested.link(0, plain_peer());
    let ids = [(); 3].map(|()| tested.submit(plain()));
    let bodies = tested.take_bodies(link, 256);
    assert_eq!(bodies.len(), 3);
    assert_eq!(sent_ids(&bodies), ids);
}

#[test]
fn large_message_keeps_its_order() {
    let mut tested = Tested::with_capacity(1, Capacity::new(10, 100_000, WhenFull::Wait));
    let link = tested.link(0, PeerInfo { max_message_size: 100_000, ..peer("server") });
    let ids =
        [1, 2, 5_000, 3, 4].map(|len| tested.submit_args(plain(), &("x".repeat(len),)).unwrap());
    let bodies = tested.take_bodies(link, 256);
    let kinds: Vec<_> =
        bodies.iter().map(|body| batch::unpack(body).map(Iterator::count)).collect();
    assert_eq!(kinds, [Some(2), None, Some(2)]);
    assert_eq!(sent_ids(&bodies), ids);
}

#[test]
fn batch_lists_its_notifications() {
    let (mut tested, links) = Tested::linked(1);
    let mut ids = Vec::new();
    for kind in [CallKind::Notification, CallKind::Request, CallKind::Notification] {
        let message = EncodedArgs::dynamic("f", &()).finish().unwrap();
        let call = NewCall {
            message,
            kind,
            policy: plain(),
            deadline: tested.now + SECOND,
            signature: Signature::UNKNOWN,
            flows: None,
        };
        ids.push(tested.submit_call(call).unwrap());
    }
    let out = tested.transmit(links[0], 256);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].calls, [ids[0], ids[2]]);
}

#[test]
fn retry_after_batch_has_same_params() {
    let (mut tested, links) = Tested::linked(2);
    for link in &links[1..] {
        tested.go_away(*link);
    }
    let ids = [7, 8].map(|n| tested.submit_args(idempotent(), &(n,)).unwrap());
    let first = tested.take(links[0]);
    assert_eq!(first.len(), 2);
    let again = tested.link(0, peer("another"));
    tested.lose(links[0]);
    tested.pass();
    tested.pass();
    let mut second = tested.take(again);
    second.sort_by_key(|body| sent_ids(std::slice::from_ref(body)));
    assert_eq!(sent_ids(&second), ids);
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(first.last(), second.last(), "the argument");
    }
}

#[test]
fn plain_peer_gets_no_cancel() {
    let mut tested = Tested::with_capacity(1, Capacity::new(1_000, 1_000_000, WhenFull::Wait));
    let link = tested.link(0, plain_peer());
    let ids: Vec<_> = (0..256).map(|_| tested.submit(plain())).collect();
    assert_eq!(tested.take(link).len(), 256);
    for id in ids {
        tested.cancel(id);
    }
    assert!(!tested.find(link).has_outgoing());
}

#[test]
fn request_too_large_for_server_is_not_sent() {
    let (mut tested, links) = Tested::linked(1);
    let id = tested.submit_args(plain(), &("x".repeat(1_000),)).unwrap();
    assert!(tested.take(links[0]).is_empty());
    let error = tested.outcome(id).unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { size: 1_000.., limit: 1_000 }), "{error}");
    assert_eq!(error.ran(), Ran::No);
}
