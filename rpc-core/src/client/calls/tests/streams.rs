//! Tests of calls that return a stream, with a clock that the test sets.

use super::*;
use crate::{
    client::calls::flows::{Flows, StreamOptions},
    inflow::Inflow,
    protocol::{
        control::Capabilities,
        stream::{Chunk, ItemsHead},
    },
};

const IDLE: Duration = Duration::from_secs(2);

/// Makes a call that returns a stream, and sends it.
fn stream() -> (Tested, LinkId, MsgId) {
    let mut tested = Tested::new(1);
    let peer = peer("server");
    let capabilities = peer.capabilities.with(Capabilities::STREAMS, true);
    let link = tested.link(0, PeerInfo { capabilities, ..peer });
    let options = StreamOptions { idle: IDLE, deadline: None };
    let flows = Flows { options, inbox: Some(Inflow::new(1_000)), outbox: None };
    let deadline = flows.next_deadline(tested.now);
    let call = NewCall {
        message: EncodedArgs::dynamic("f", &()).finish().unwrap(),
        kind: CallKind::Request,
        policy: CallPolicy { idempotent: false, retries: 0, fail_fast: false, extras: None },
        deadline,
        signature: Signature::UNKNOWN,
        flows: Some(Box::new(flows)),
    };
    let id = tested.submit_call(call).unwrap();
    tested.take(link);
    (tested, link, id)
}

fn item(tested: &mut Tested, link: LinkId, id: MsgId) {
    let chunk = Chunk::new(Bytes::from_static(b"\x01"), ItemsHead { id, values_at: 0, count: 1 });
    tested.calls.handle_items(link, id, chunk, 100, tested.now, &mut tested.wakers);
}

/// Takes what has come. Returns true for items, false for the end, and `None` for nothing.
fn poll(tested: &mut Tested, id: MsgId) -> Option<bool> {
    let (waker, mut old) = (Waker::noop(), None);
    let next = tested.calls.poll_items(id, waker, &mut old, tested.now, &mut tested.wakers);
    next.map(|next| matches!(next, Next::Items(_)))
}

/// Lets time pass. Returns true if the stream has ended.
fn wait(tested: &mut Tested, id: MsgId, time: Duration) -> bool {
    tested.now += time;
    tested.calls.handle_timeout(tested.now, &mut tested.wakers);
    poll(tested, id) == Some(false)
}

#[test]
fn silence_counts_from_the_last_item() {
    let (mut tested, link, id) = stream();
    assert!(!wait(&mut tested, id, IDLE / 2));
    item(&mut tested, link, id);
    assert_eq!((poll(&mut tested, id), poll(&mut tested, id)), (Some(true), None));
    // The time that had begun before the item is up.
    assert!(!wait(&mut tested, id, IDLE / 2));
    assert!(!wait(&mut tested, id, IDLE / 4));
    assert!(wait(&mut tested, id, IDLE / 4));
}

#[test]
fn silence_counts_from_when_the_caller_waits() {
    let (mut tested, link, id) = stream();
    item(&mut tested, link, id);
    // Nobody takes the item.
    for _ in 0..3 {
        tested.now += IDLE;
        tested.calls.handle_timeout(tested.now, &mut tested.wakers);
    }
    assert_eq!(poll(&mut tested, id), Some(true));
    // Its caller works on it.
    for _ in 0..3 {
        tested.now += IDLE;
        tested.calls.handle_timeout(tested.now, &mut tested.wakers);
    }
    tested.now += IDLE / 2;
    assert_eq!(poll(&mut tested, id), None);
    assert!(!wait(&mut tested, id, IDLE / 2));
    assert!(wait(&mut tested, id, IDLE / 2));
}
