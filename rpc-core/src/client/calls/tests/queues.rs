//! Tests of the bounds of every queue of a client, and of what happens at each bound.

use super::*;

#[test]
fn calls_without_capacity_wait_in_order() {
    let mut tested = Tested::with_capacity(1, Capacity::new(2, 10_000, WhenFull::Wait));
    let link = tested.link(0, peer("one"));
    let ids: Vec<_> = (0..4).map(|_| tested.submit(plain())).collect();
    assert_eq!(tested.take(link).len(), 2);
    tested.reply(link, ids[0], Bytes::new());
    tested.admit();
    assert!(tested.take(link).is_empty(), "the first outcome was not taken yet");
    assert!(tested.outcome(ids[0]).is_some());
    tested.admit();
    let bodies = tested.take(link);
    let Ok(ClientMessage::Request(request)) = request::parse(&bodies[0]) else {
        panic!("{bodies:?}")
    };
    assert_eq!((bodies.len(), request.id), (1, ids[2]));
    // The deadline of the last call passes while the call waits for capacity.
    tested.pass();
    assert_eq!(tested.error(ids[3]), (ErrorKind::DeadlineExceeded, Ran::No));
    assert_eq!(tested.error(ids[2]), (ErrorKind::DeadlineExceeded, Ran::Maybe));
}

#[test]
fn calls_without_capacity_fail_if_configured() {
    let mut tested = Tested::with_capacity(1, Capacity::new(2, 10_000, WhenFull::Fail));
    let first = tested.submit(plain());
    tested.submit(plain());
    let error = tested.submit_args(plain(), &()).unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Overloaded, Ran::No));
    tested.cancel(first);
    tested.submit_args(plain(), &()).unwrap();
}

#[test]
fn calls_in_backoff_keep_their_capacity() {
    let mut tested = Tested::with_capacity(1, Capacity::new(2, 10_000, WhenFull::Fail));
    let link = tested.link(0, peer("one"));
    let ids = [tested.submit(plain()), tested.submit(plain())];
    tested.take(link);
    for id in ids {
        tested.fail(link, id, ErrorKind::Overloaded, Ran::No);
    }
    tested.submit_args(plain(), &()).unwrap_err();
    assert_eq!(tested.calls.backoffs.len(), 2);
    tested.cancel(ids[0]);
    tested.submit_args(plain(), &()).unwrap();
}

#[test]
fn cancels_never_exceed_calls_in_flight() {
    const CALLS: usize = 1_000;
    let mut tested = Tested::with_capacity(1, Capacity::new(CALLS, 1_000_000, WhenFull::Fail));
    let link = tested.link(0, peer("one"));
    let mut most = 0;
    for _ in 0..5 {
        let ids: Vec<_> = (0..CALLS).map(|_| tested.submit(plain())).collect();
        // A random number of times, so that sometimes all calls are sent and sometimes only a few.
        (0..fastrand::usize(1..5)).for_each(|_| drop(tested.take(link)));
        for id in ids {
            tested.cancel(id);
        }
        most = most.max(tested.find(link).cancels.len());
    }
    assert!((256..=CALLS).contains(&most), "{most}");
    while !tested.take(link).is_empty() {}
    assert!(!tested.find(link).has_outgoing());
}

#[test]
fn replies_count_as_bytes_until_taken() {
    let mut tested = Tested::with_capacity(1, Capacity::new(10, 200, WhenFull::Fail));
    let link = tested.link(0, peer("one"));
    let text = "x".repeat(150);
    let id = tested.submit_args(plain(), &(&text,)).unwrap();
    tested.submit_args(plain(), &(&text,)).unwrap_err();
    tested.take(link);
    tested.reply(link, id, Bytes::from(vec![0; 190]));
    tested.submit_args(plain(), &(&text,)).unwrap_err();
    tested.outcome(id).unwrap().unwrap();
    tested.submit_args(plain(), &(&text,)).unwrap();
}

#[test]
fn calls_cancelled_without_link_are_pruned() {
    let mut tested = Tested::with_capacity(1, Capacity::new(1, 10_000, WhenFull::Wait));
    let first = tested.submit(plain());
    for _ in 0..10_000 {
        let id = tested.submit(plain());
        tested.cancel(id);
    }
    assert!(tested.calls.waiting.len() <= 67, "{}", tested.calls.waiting.len());
    tested.cancel(first);
    for _ in 0..10_000 {
        let id = tested.submit(plain());
        tested.cancel(id);
    }
    assert!(tested.calls.unrouted.len() <= 67, "{}", tested.calls.unrouted.len());
    assert_eq!(tested.calls.capacity.calls, 0);
}

#[test]
fn calls_expired_without_link_are_pruned() {
    let mut tested = Tested::with_capacity(1, Capacity::new(1, 10_000, WhenFull::Wait));
    for _ in 0..1_000 {
        let ids = [tested.submit(plain()), tested.submit(plain())];
        tested.pass();
        for id in ids {
            assert_eq!(tested.error(id), (ErrorKind::DeadlineExceeded, Ran::No));
        }
    }
    assert!(tested.calls.unrouted.len() <= 70, "{}", tested.calls.unrouted.len());
    assert!(tested.calls.waiting.len() <= 70, "{}", tested.calls.waiting.len());
}
