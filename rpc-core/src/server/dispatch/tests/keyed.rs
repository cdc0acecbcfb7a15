//! Calls with an idempotency key, on one listener and on two of one server.

use super::*;

/// A request of the function `method` with a key.
fn keyed(id: u32, method: &str, timeout_ms: u16) -> Bytes {
    let mut body = vec![0x95, 0, 0xce];
    body.extend(id.to_be_bytes());
    body.push(0xa0 | u8::try_from(method.len()).unwrap());
    body.extend(method.as_bytes());
    body.extend(b"\x82\xa3key\xa3one\xaatimeout_ms\xcd");
    body.extend(timeout_ms.to_be_bytes());
    body.push(0x90);
    Bytes::from(body)
}

fn from(tested: &mut Tested, client: &'static str, body: &Bytes, now: Instant) -> Vec<Reply> {
    let mut out = Vec::new();
    tested.on_body(Envelope::of(&[client, ""]), body, now, &mut out, |_, _| {});
    out
}

/// Everything that the loop was told, handled.
fn news(tested: &mut Tested, now: Instant) -> Vec<Reply> {
    let (mut out, mut news) = (Vec::new(), VecDeque::new());
    while !news.is_empty() || tested.run.outbox.take(&mut news) {
        out.extend(news.pop_front().and_then(|news| tested.on_news(news, now)));
    }
    out
}

/// Whom a reply answers, with which msgid.
fn answered(replies: &[Reply]) -> Vec<(String, u32)> {
    let read = |reply: &Reply| {
        let message::Incoming::Response { id, .. } = message::classify(&reply.body) else {
            panic!("{reply:?}")
        };
        (String::from_utf8(reply.envelope.peer().to_vec()).unwrap(), id.0)
    };
    let mut all: Vec<_> = replies.iter().map(read).collect();
    all.sort();
    all
}

fn start(tested: &Tested, index: usize) {
    assert!(tested.run.started[index].invocation.context().start(Instant::now()));
}

#[test]
fn a_call_that_has_run_is_answered_again_and_not_run_again() {
    let (mut tested, now) = (dispatcher(10), Instant::now());
    for method in ["pooled", "inlined"] {
        let mut tested = dispatcher(10);
        let first = from(&mut tested, "a", &keyed(1, method, 1_000), now);
        if method == "pooled" {
            assert!(first.is_empty());
            assert!(finish(&mut tested).is_empty());
            assert_eq!(answered(&news(&mut tested, now)), [("a".to_owned(), 1)]);
        } else {
            assert_eq!(answered(&first), [("a".to_owned(), 1)]);
        }
        let again = from(&mut tested, "b", &keyed(9, method, 1_000), now);
        assert_eq!(answered(&again), [("b".to_owned(), 9)]);
        assert_eq!(code(&again).0, "ok");
        assert!(tested.run.started.is_empty() && tested.is_idle());
        // A draining server answers it too.
        tested.service.draining.store(true, Ordering::Relaxed);
        assert_eq!(code(&from(&mut tested, "b", &keyed(10, method, 1_000), now)).0, "ok");
    }
    tested.service.draining.store(true, Ordering::Relaxed);
    let refused = from(&mut tested, "b", &keyed(1, "pooled", 1_000), now);
    assert_eq!(code(&refused), ("ShuttingDown".into(), Ran::No));
}

#[test]
fn a_retry_waits_for_the_same_outcome_on_whichever_listener() {
    let now = Instant::now();
    let service = service(10);
    let mut first = Dispatcher::new(Arc::clone(&service), Notes::default());
    let mut second = Dispatcher::new(service, Notes::default());
    from(&mut first, "a", &keyed(1, "pooled", 1_000), now);
    from(&mut first, "b", &keyed(2, "pooled", 1_000), now);
    from(&mut second, "c", &keyed(3, "pooled", 1_000), now);
    assert_eq!((first.run.started.len(), second.run.started.len()), (1, 0));
    finish(&mut first);
    assert_eq!(answered(&news(&mut first, now)), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    assert_eq!(answered(&news(&mut second, now)), [("c".to_owned(), 3)]);
    assert!(first.is_idle() && second.is_idle());
}

#[test]
fn a_lost_connection_does_not_end_what_has_a_key() {
    let (mut tested, now) = (dispatcher(10), Instant::now());
    from(&mut tested, "a", &keyed(1, "pooled", 1_000), now);
    tested.on_peer_gone(&Bytes::from_static(b"a"), now);
    assert!(news(&mut tested, now).is_empty());
    assert!(!tested.run.started[0].invocation.context().is_cancelled());
    from(&mut tested, "b", &keyed(1, "pooled", 1_000), now);
    finish(&mut tested);
    assert_eq!(answered(&news(&mut tested, now)), [("b".to_owned(), 1)]);
    assert!(tested.is_idle());
}

#[test]
fn only_the_last_one_that_cancels_stops_the_function() {
    let (mut tested, now) = (dispatcher(10), Instant::now());
    let cancel = |id: u32| notification("rpc.cancel", (id,));
    from(&mut tested, "a", &keyed(1, "pooled", 1_000), now);
    from(&mut tested, "b", &keyed(2, "pooled", 1_000), now);
    start(&tested, 0);
    let context = tested.run.started[0].invocation.context().clone();
    assert_eq!(code(&from(&mut tested, "a", &cancel(1), now)), ("Cancelled".into(), Ran::Yes));
    assert!(news(&mut tested, now).is_empty() && !context.is_cancelled());
    assert_eq!(code(&from(&mut tested, "b", &cancel(2), now)), ("Cancelled".into(), Ran::Yes));
    assert!(news(&mut tested, now).is_empty() && context.is_cancelled());
    // That it was cancelled after it had begun is its outcome, whatever it returns later.
    let again = from(&mut tested, "a", &keyed(3, "pooled", 1_000), now);
    assert_eq!(code(&again), ("Cancelled".into(), Ran::Yes));
    assert!(finish(&mut tested).is_empty());
    assert!(news(&mut tested, now).is_empty() && tested.is_idle());
}

#[test]
fn who_comes_between_the_last_cancel_and_the_stop_keeps_it_running() {
    let (mut tested, now) = (dispatcher(10), Instant::now());
    from(&mut tested, "a", &keyed(1, "pooled", 1_000), now);
    from(&mut tested, "a", &notification("rpc.cancel", (1,)), now);
    from(&mut tested, "b", &keyed(2, "pooled", 1_000), now);
    assert!(news(&mut tested, now).is_empty());
    assert_eq!(tested.run.stopped, 0);
    finish(&mut tested);
    assert_eq!(answered(&news(&mut tested, now)), [("b".to_owned(), 2)]);
}

#[test]
fn what_never_started_is_not_remembered_and_may_run_at_the_next_try() {
    let (mut tested, now) = (dispatcher(10), Instant::now());
    from(&mut tested, "a", &keyed(1, "pooled", 1_000), now);
    let late = now + Duration::from_secs(1);
    let mut out = Vec::new();
    tested.on_time(late, &mut out);
    out.extend(news(&mut tested, late));
    assert_eq!(answered(&out), [("a".to_owned(), 1)]);
    assert!(tested.is_idle());
    tested.run.started.clear();
    assert!(from(&mut tested, "a", &keyed(2, "pooled", 1_000), late).is_empty());
    assert_eq!(tested.run.started.len(), 1);
}

#[test]
fn every_waiter_has_its_own_deadline() {
    let (mut tested, now) = (dispatcher(10), Instant::now());
    from(&mut tested, "a", &keyed(1, "pooled", 3_000), now);
    from(&mut tested, "b", &keyed(2, "pooled", 1_000), now);
    start(&tested, 0);
    let mut out = Vec::new();
    tested.on_time(now + Duration::from_secs(1), &mut out);
    assert_eq!(code(&out), ("DeadlineExceeded".into(), Ran::Yes));
    assert_eq!(answered(&out), [("b".to_owned(), 2)]);
    finish(&mut tested);
    assert_eq!(answered(&news(&mut tested, now)), [("a".to_owned(), 1)]);
}

#[test]
fn a_key_of_another_call_and_a_full_memory_are_refused() {
    let (mut tested, now) = (dispatcher(100), Instant::now());
    from(&mut tested, "a", &keyed(1, "pooled", 1_000), now);
    let refused = from(&mut tested, "a", &keyed(2, "timed", 1_000), now);
    assert_eq!(code(&refused), ("BadRequest".into(), Ran::No));
    let other = |key: u8| {
        let mut body = keyed(3, "pooled", 1_000).to_vec();
        let at = body.windows(3).position(|part| part == b"one").unwrap();
        body[at] = key;
        Bytes::from(body)
    };
    assert!(from(&mut tested, "a", &other(b'2'), now).is_empty());
    assert!(from(&mut tested, "a", &other(b'3'), now).is_empty());
    assert_eq!(code(&from(&mut tested, "a", &other(b'4'), now)), ("Overloaded".into(), Ran::No));
    finish(&mut tested);
    news(&mut tested, now);
    assert!(
        from(&mut tested, "a", &other(b'4'), now).is_empty(),
        "the one that has ended is forgotten"
    );
}

#[test]
fn a_refused_call_leaves_nothing_behind_and_waiters_are_admitted_too() {
    let (mut tested, now) = (dispatcher(2), Instant::now());
    tested.run.full = true;
    let refused = from(&mut tested, "a", &keyed(1, "pooled", 1_000), now);
    assert_eq!(code(&refused), ("Overloaded".into(), Ran::No));
    assert!(tested.is_idle());
    tested.run.full = false;
    assert!(from(&mut tested, "a", &keyed(1, "pooled", 1_000), now).is_empty());
    assert!(from(&mut tested, "b", &keyed(2, "pooled", 1_000), now).is_empty());
    let refused = from(&mut tested, "c", &keyed(3, "pooled", 1_000), now);
    assert_eq!(code(&refused), ("Overloaded".into(), Ran::No));
    // Its permit goes with what was started.
    finish(&mut tested);
    assert_eq!(news(&mut tested, now).len(), 2);
    assert!(send(&mut tested, &request(1, "pooled", None), now).is_empty());
}

#[test]
fn giving_up_answers_everyone_who_waits() {
    let (mut tested, now) = (dispatcher(10), Instant::now());
    from(&mut tested, "a", &keyed(1, "pooled", 1_000), now);
    from(&mut tested, "b", &keyed(2, "pooled", 1_000), now);
    assert_eq!(tested.running(), BTreeMap::from([("pooled", 1)]));
    let mut out = Vec::new();
    tested.give_up(now, &mut out);
    out.extend(news(&mut tested, now));
    assert_eq!(answered(&out), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
}
