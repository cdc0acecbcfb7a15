//! Tests of requests that end before their functions have.

use super::*;

#[test]
fn overdue_request_is_answered_once() {
    for (started, ran) in [(false, Ran::No), (true, Ran::Yes)] {
        let mut tested = dispatcher(10);
        let now = Instant::now();
        send(&mut tested, &request(1, "blocking", Some(1_000)), now);
        if started {
            assert!(tested.executor.started[0].invocation.context().start(Instant::now()));
        }
        let mut out = Vec::new();
        tested.handle_timeout(now + Duration::from_millis(999), &mut out);
        assert!(out.is_empty());
        let late = now + Duration::from_secs(1);
        tested.handle_timeout(late, &mut out);
        assert_eq!(code(&out), ("DeadlineExceeded".into(), ran));
        out.clear();
        tested.handle_timeout(late, &mut out);
        assert!(out.is_empty());
        if started {
            assert!(!tested.is_idle(), "the function still runs and keeps its request");
            assert!(finish(&mut tested).is_empty());
        }
        assert!(tested.is_idle());
    }
}

#[test]
fn job_cancelled_before_its_start_never_runs() {
    let mut tested = dispatcher(10);
    send(&mut tested, &request(1, "blocking", None), Instant::now());
    // A worker has taken the job when the cancel arrives.
    let work = tested.executor.started.pop_front().unwrap();
    let replies = send(&mut tested, &notification("rpc.cancel", (1,)), Instant::now());
    assert_eq!(code(&replies), ("Cancelled".into(), Ran::No));
    let result = run_inline(|_| unreachable!(), &work.invocation, None, Instant::now());
    let completion = Completion::Ended { ticket: work.ticket, result };
    assert!(complete(&mut tested, completion).is_empty());
}

#[test]
fn function_timeout_is_the_default() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    send(&mut tested, &request(1, "timed", None), now);
    assert_eq!(tested.next_timeout(), Some(now + Duration::from_secs(2)));
    let mut tested = dispatcher(10);
    send(&mut tested, &request(1, "timed", Some(500)), now);
    assert_eq!(tested.next_timeout(), Some(now + Duration::from_millis(500)));
}

#[test]
fn cancel_ends_every_call_with_its_msgid() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    for id in [1, 1, 2] {
        send(&mut tested, &request(id, "blocking", None), now);
    }
    let replies = send(&mut tested, &notification("rpc.cancel", (1,)), now);
    assert_eq!(replies.len(), 2);
    for reply in replies {
        assert_eq!(code(&[reply]), ("Cancelled".into(), Ran::No));
    }
    assert!(send(&mut tested, &notification("rpc.cancel", (1,)), now).is_empty());
    assert!(send(&mut tested, &notification("rpc.cancel", ("nonsense",)), now).is_empty());
    assert_eq!(tested.executor.stopped, 2);
}

#[test]
fn cancel_spares_other_clients_of_a_proxy() {
    let mut tested = dispatcher(10);
    let (a, b) = (ReplyTo::of(&["proxy", "a", ""]), ReplyTo::of(&["proxy", "b", ""]));
    let (now, mut out) = (Instant::now(), Vec::new());
    tested.handle_message(a.clone(), &request(1, "blocking", None), now, &mut out);
    tested.handle_message(b, &notification("rpc.cancel", (1,)), now, &mut out);
    assert!(out.is_empty());
    tested.handle_message(a, &notification("rpc.cancel", (1,)), now, &mut out);
    assert_eq!(out.len(), 1);
}

#[test]
fn lost_peer_ends_requests_not_notifications() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    send(&mut tested, &request(1, "blocking", None), now);
    send(&mut tested, &notification("blocking", ()), now);
    tested.handle_peer_gone(&peer("client"), now);
    assert_eq!(tested.executor.stopped, 1);
    assert!(!tested.is_idle(), "the notification still runs");
    assert!(tested.executor.started[0].invocation.context().is_cancelled());
    assert!(!tested.executor.started[1].invocation.context().is_cancelled());
}
