//! Tests of links to a carrier that stores messages.

use super::*;
use crate::{client::status::Connectivity, protocol::control::Capabilities, transport::Fate};

fn carrier() -> PeerInfo {
    let capabilities = Capabilities::OPTIONS.with(Capabilities::STORED, true);
    PeerInfo { capabilities, instance: None, ..peer("carrier") }
}

impl Tested {
    fn settle(&mut self, link: LinkId, calls: &[MsgId], fate: &Fate) {
        self.calls.handle_fate(link, calls, fate, self.now, &mut self.wakers);
    }
}

/// A client with a link to a carrier, and a call of `kind` that was sent on it.
fn sent(policy: CallPolicy) -> (Tested, LinkId, MsgId) {
    let mut tested = Tested::new(1);
    let link = tested.link(0, carrier());
    let id = tested.submit(policy);
    let out = tested.transmit(link, 256);
    assert_eq!((out.len(), &out[0].calls[..]), (1, &[id][..]));
    assert!(out[0].deadline.is_some(), "the carrier drops it at its deadline");
    (tested, link, id)
}

#[test]
fn stored_call_is_not_sent_again() {
    for (stored, expected) in [(true, true), (false, false)] {
        let (mut tested, link, id) = sent(idempotent());
        if stored {
            tested.settle(link, &[id], &Fate::Stored);
        }
        tested.lose(link);
        let outcome = tested.outcome(id);
        assert_eq!(outcome.is_some(), expected, "one that is not stored is retried");
        if let Some(outcome) = outcome {
            let error = outcome.unwrap_err();
            assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::Maybe));
            assert!(error.to_string().contains("has stored the request"), "{error}");
        }
    }
}

#[test]
fn reply_may_come_before_the_fate() {
    let (mut tested, link, id) = sent(plain());
    assert!(tested.reply(link, id, Bytes::from_static(b"1")));
    tested.settle(link, &[id], &Fate::Stored);
    assert!(tested.outcome(id).unwrap().is_ok());
}

#[test]
fn refused_call_is_tried_again_and_a_returned_one_is_not() {
    let (mut tested, link, id) = sent(plain());
    tested.settle(link, &[id], &Fate::Refused("the queue is full".to_owned()));
    assert!(tested.outcome(id).is_none());
    tested.pass();
    assert_eq!(tested.take(link).len(), 1);
    tested.settle(link, &[id], &Fate::Returned("there is no queue".to_owned()));
    assert_eq!(tested.error(id), (ErrorKind::Disconnected, Ran::No));
}

#[test]
fn call_that_a_server_refuses_is_stored_again() {
    let (mut tested, link, id) = sent(idempotent());
    tested.settle(link, &[id], &Fate::Stored);
    tested.fail(link, id, ErrorKind::Overloaded, Ran::No);
    tested.pass();
    assert_eq!(sent_ids(&tested.take_bodies(link, 256)), [id]);
    tested.lose(link);
    assert!(tested.outcome(id).is_none(), "the second request is not stored yet");
}

#[test]
fn returned_call_is_tried_at_another_carrier() {
    let mut tested = Tested::new(2);
    let links = [0, 1].map(|endpoint| tested.link(endpoint, carrier()));
    let id = tested.submit(plain());
    let first = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    tested.settle(links[first], &[id], &Fate::Returned("there is no queue".to_owned()));
    tested.pass();
    assert_eq!(tested.take(links[1 - first]).len(), 1);
}

#[test]
fn notification_is_complete_when_it_is_stored() {
    let mut tested = Tested::new(1);
    let link = tested.link(0, carrier());
    let message = EncodedArgs::dynamic("f", &()).finish().unwrap();
    let (kind, deadline) = (CallKind::Notification, tested.now + SECOND);
    let signature = Signature::UNKNOWN;
    let call = NewCall { message, kind, policy: plain(), deadline, signature, flows: None };
    let id = tested.submit_call(call).unwrap();
    let out = tested.transmit(link, 256);
    assert_eq!((&out[0].calls[..], out[0].deadline), (&[id][..], None), "it does not expire");
    assert!(tested.outcome(id).is_none());
    tested.settle(link, &[id], &Fate::Stored);
    assert!(tested.outcome(id).unwrap().is_ok());
}

#[test]
fn calls_wait_while_the_carrier_is_blocked() {
    let mut tested = Tested::new(1);
    let link = tested.link(0, carrier());
    tested.calls.handle_blocked(
        link,
        Some("low on memory".to_owned()),
        tested.now,
        &mut tested.wakers,
    );
    let id = tested.submit(plain());
    assert!(tested.take(link).is_empty());
    let status = tested.calls.status(tested.now);
    let expected = Connectivity::Blocked { reason: "low on memory".into() };
    assert_eq!(status.endpoints[0].state, expected);
    tested.calls.handle_blocked(link, None, tested.now, &mut tested.wakers);
    assert_eq!(tested.take(link).len(), 1);
    tested.reply(link, id, Bytes::from_static(b"1"));
}

#[test]
fn calls_of_a_blocked_carrier_go_to_another() {
    let mut tested = Tested::new(2);
    let first = tested.link(0, carrier());
    let ids = [(); 3].map(|()| tested.submit(plain()));
    let second = tested.link(1, carrier());
    let reason = Some("low on memory".to_owned());
    tested.calls.handle_blocked(first, reason, tested.now, &mut tested.wakers);
    assert!(tested.take(first).is_empty());
    assert_eq!(sent_ids(&tested.take_bodies(second, 256)), ids, "in their order");
}
