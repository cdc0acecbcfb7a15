//! Tests of the tries of a call: which are repeated, at which server, and what is remembered of them.

use super::*;

#[test]
fn lost_idempotent_call_is_retried_elsewhere() {
    let (mut tested, links) = Tested::linked(2);
    let id = tested.submit(idempotent());
    let first = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    tested.lose(links[first]);
    assert!(tested.outcome(id).is_none());
    assert!(tested.take(links[1 - first]).is_empty(), "the call backs off first");
    tested.pass();
    let bodies = tested.take(links[1 - first]);
    let Ok(ClientMessage::Request(request)) = request::parse(&bodies[0]) else {
        panic!("{bodies:?}")
    };
    assert_eq!(request.id, id);
    assert!(request.timeout.unwrap() < 10 * SECOND, "the deadline stays the same");
    tested.reply(links[1 - first], id, Bytes::from_static(b"1"));
    let reply = tested.outcome(id).unwrap().unwrap();
    assert!(reply.maybe_ran && *reply.endpoint.name == format!("endpoint-{}", 1 - first));
}

#[test]
fn unsafe_retry_is_not_made() {
    let (mut tested, links) = Tested::linked(1);
    let id = tested.submit(plain());
    tested.take(links[0]);
    tested.lose(links[0]);
    let error = tested.outcome(id).unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.ran(), error.endpoint()),
        (ErrorKind::Disconnected, Ran::Maybe, "endpoint-0")
    );
}

#[test]
fn retry_avoids_the_server_that_refused() {
    for kind in [ErrorKind::Overloaded, ErrorKind::ShuttingDown] {
        let (mut tested, links) = Tested::linked(2);
        let id = tested.submit(plain());
        let first = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
        tested.fail(links[first], id, kind, Ran::No);
        tested.pass();
        assert_eq!(tested.take(links[1 - first]).len(), 1);
    }
}

#[test]
fn retry_after_applies_to_one_server_only() {
    let overloaded = || {
        let body = b"\x94\x01\x00\x83\xa4code\xaaoverloaded\xa3ran\xa2no\xaeretry_after_ms\xcd\x03\xe8\xc0";
        response::parse_response(&Bytes::from_static(body)).unwrap().unwrap_err()
    };
    let (mut tested, links) = Tested::linked(2);
    let begin = tested.now;
    let id = tested.submit(plain());
    let first = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    tested.refuse(links[first], id, overloaded());
    tested.pass();
    assert!(tested.now < begin + SECOND / 10);
    assert_eq!(tested.take(links[1 - first]).len(), 1);
    // Both servers have now asked for a pause of one second.
    tested.refuse(links[1 - first], id, overloaded());
    tested.pass();
    assert!(tested.now >= begin + SECOND);
}

#[test]
fn lost_try_is_remembered_in_ran() {
    let (mut tested, links) = Tested::linked(2);
    let id = tested.submit(CallPolicy { retries: 1, ..idempotent() });
    let first = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    tested.lose(links[first]);
    tested.pass();
    tested.take(links[1 - first]);
    tested.fail(links[1 - first], id, ErrorKind::Overloaded, Ran::No);
    assert_eq!(tested.error(id), (ErrorKind::Overloaded, Ran::Maybe));
}

#[test]
fn try_that_ran_is_remembered_in_ran() {
    // Our servers never report an overload together with `Ran::Yes`, but another server may.
    let (mut tested, links) = Tested::linked(1);
    let id = tested.submit(CallPolicy { retries: 1, ..idempotent() });
    tested.take(links[0]);
    tested.fail(links[0], id, ErrorKind::Overloaded, Ran::Yes);
    tested.pass();
    tested.take(links[0]);
    tested.fail(links[0], id, ErrorKind::Overloaded, Ran::No);
    assert_eq!(tested.error(id), (ErrorKind::Overloaded, Ran::Maybe));
}

#[test]
fn retry_after_deadline_is_not_made() {
    let (mut tested, links) = Tested::linked(1);
    let id = tested.submit(plain());
    tested.take(links[0]);
    tested.now += 9 * SECOND + Duration::from_millis(999);
    tested.fail(links[0], id, ErrorKind::Overloaded, Ran::No);
    assert_eq!(tested.error(id), (ErrorKind::Overloaded, Ran::No));
}

#[test]
fn all_calls_of_a_lost_server_are_retried_soon() {
    const CALLS: usize = 5_000;
    let mut tested = Tested::with_capacity(1, Capacity::new(CALLS, usize::MAX / 2, WhenFull::Wait));
    let link = tested.link(0, peer("one"));
    for _ in 0..CALLS {
        tested.submit(idempotent());
    }
    let mut sent = 0;
    while sent < CALLS {
        sent += tested.take(link).len();
    }
    tested.lose(link);
    let again = tested.link(0, peer("another"));
    let (start, mut sent) = (tested.now, 0);
    while sent < CALLS {
        tested.pass();
        sent += tested.take(again).len();
    }
    assert!(tested.now < start + SECOND, "{:?}", tested.now - start);
}

#[test]
fn spent_budget_delays_retry() {
    let (mut tested, links) = Tested::linked(1);
    while tested.calls.budget.withdraw(tested.now).is_ok() {}
    let id = tested.submit(plain());
    tested.take(links[0]);
    tested.fail(links[0], id, ErrorKind::Overloaded, Ran::No);
    tested.now += Duration::from_millis(11);
    tested.handle_timeout();
    assert!(tested.take(links[0]).is_empty(), "the retry is due, but the budget is spent");
    let mut passes = 0;
    while tested.take(links[0]).is_empty() {
        tested.pass();
        passes += 1;
    }
    assert!(passes < 4);
    assert!(tested.outcome(id).is_none());
}

#[test]
fn keyed_call_is_retried_at_same_process_only() {
    let (mut tested, links) = Tested::linked(2);
    let id = tested.submit(keyed());
    let first = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    tested.lose(links[first]);
    tested.pass();
    assert!(tested.take(links[1 - first]).is_empty(), "another server has no cached reply");
    // The client reconnects to the same process.
    let again = tested.link(first, peer(&format!("server-{first}")));
    let bodies = tested.take(again);
    let Ok(ClientMessage::Request(request)) = request::parse(&bodies[0]) else {
        panic!("{bodies:?}")
    };
    assert_eq!((request.id, request.options.unwrap().key), (id, Some(&b"once"[..])));
    // The client reconnects to another process, after a restart of the server.
    tested.lose(again);
    tested.pass();
    tested.link(first, peer("replaced"));
    assert_eq!(tested.error(id), (ErrorKind::Disconnected, Ran::Maybe));
}

#[test]
fn keyed_call_that_never_ran_goes_anywhere() {
    let (mut tested, links) = Tested::linked(2);
    let id = tested.submit(keyed());
    let first = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    tested.fail(links[first], id, ErrorKind::Overloaded, Ran::No);
    tested.pass();
    assert_eq!(tested.take(links[1 - first]).len(), 1);
}

#[test]
fn idempotent_keyed_call_goes_anywhere() {
    let (mut tested, links) = Tested::linked(2);
    let id = tested.submit(CallPolicy { idempotent: true, ..keyed() });
    let first = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    tested.lose(links[first]);
    tested.pass();
    assert_eq!(tested.take(links[1 - first]).len(), 1);
    assert!(tested.outcome(id).is_none());
}

#[test]
fn keyed_call_to_plain_peer_is_not_retried() {
    let mut tested = Tested::new(1);
    let link = tested.link(0, plain_peer());
    let id = tested.submit(keyed());
    tested.take(link);
    tested.lose(link);
    assert_eq!(tested.error(id), (ErrorKind::Disconnected, Ran::Maybe));
}
