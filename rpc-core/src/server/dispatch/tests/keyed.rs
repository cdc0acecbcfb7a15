//! Tests of calls with an idempotency key, on one listener and on two listeners of the same server.

use super::*;

/// Makes a request for the function `method` with the key `one`.
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

/// Sends a message, and returns the messages that this causes at once.
fn from(tested: &mut Tested, client: &'static str, body: &Bytes, now: Instant) -> Vec<Outbound> {
    let mut out = Vec::new();
    tested.handle_message(ReplyTo::of(&[client, ""]), body, now, &mut out);
    out
}

/// Handles everything in the completion queue, and returns the outbound messages.
fn completions(tested: &mut Tested, now: Instant) -> Vec<Outbound> {
    let (mut out, mut completions) = (Vec::new(), VecDeque::new());
    while !completions.is_empty() || tested.executor.completions.try_recv(&mut completions) {
        if let Some(completion) = completions.pop_front() {
            tested.handle_completion(completion, now, &mut out);
        }
    }
    out
}

/// Returns the peer and the msgid of each reply, sorted.
fn answered(replies: &[Outbound]) -> Vec<(String, u32)> {
    let read = |reply: &Outbound| {
        let ServerMessage::Response { id, .. } = response::classify(&reply.body) else {
            panic!("{reply:?}")
        };
        (String::from_utf8(reply.reply_to.peer().as_bytes().to_vec()).unwrap(), id.0)
    };
    let mut all: Vec<_> = replies.iter().map(read).collect();
    all.sort();
    all
}

/// Marks the function at `index` as started, as a worker does.
fn start(tested: &Tested, index: usize) {
    assert!(tested.executor.started[index].invocation.context().start(Instant::now()));
}

#[test]
fn retry_is_answered_from_the_cache() {
    let (mut tested, now) = (dispatcher(10), Instant::now());
    for method in ["blocking", "inlined"] {
        let mut tested = dispatcher(10);
        let first = from(&mut tested, "a", &keyed(1, method, 1_000), now);
        if method == "blocking" {
            assert!(first.is_empty());
            assert!(finish(&mut tested).is_empty());
            assert_eq!(answered(&completions(&mut tested, now)), [("a".to_owned(), 1)]);
        } else {
            assert_eq!(answered(&first), [("a".to_owned(), 1)]);
        }
        let again = from(&mut tested, "b", &keyed(9, method, 1_000), now);
        assert_eq!(answered(&again), [("b".to_owned(), 9)]);
        assert_eq!(code(&again).0, "ok");
        assert!(tested.executor.started.is_empty() && tested.is_idle());
        // A draining server still answers from the cache.
        tested.drain(now, &mut Vec::new());
        assert_eq!(code(&from(&mut tested, "b", &keyed(10, method, 1_000), now)).0, "ok");
    }
    tested.drain(now, &mut Vec::new());
    let refused = from(&mut tested, "b", &keyed(1, "blocking", 1_000), now);
    assert_eq!(code(&refused), ("ShuttingDown".into(), Ran::No));
    assert!(tested.is_idle(), "a refused call must not prolong the draining");
}

#[test]
fn retry_on_another_listener_shares_the_call() {
    let now = Instant::now();
    let service = service(10);
    let mut first = Dispatcher::new(Arc::clone(&service), RecordingExecutor::default());
    let mut second = Dispatcher::new(service, RecordingExecutor::default());
    from(&mut first, "a", &keyed(1, "blocking", 1_000), now);
    from(&mut first, "b", &keyed(2, "blocking", 1_000), now);
    from(&mut second, "c", &keyed(3, "blocking", 1_000), now);
    assert_eq!((first.executor.started.len(), second.executor.started.len()), (1, 0));
    finish(&mut first);
    assert_eq!(answered(&completions(&mut first, now)), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    assert_eq!(answered(&completions(&mut second, now)), [("c".to_owned(), 3)]);
    assert!(first.is_idle() && second.is_idle());
}

#[test]
fn keyed_call_survives_a_lost_connection() {
    let (mut tested, now) = (dispatcher(10), Instant::now());
    from(&mut tested, "a", &keyed(1, "blocking", 1_000), now);
    tested.handle_peer_gone(&peer("a"), now);
    assert!(completions(&mut tested, now).is_empty());
    assert!(!tested.executor.started[0].invocation.context().is_cancelled());
    from(&mut tested, "b", &keyed(1, "blocking", 1_000), now);
    finish(&mut tested);
    assert_eq!(answered(&completions(&mut tested, now)), [("b".to_owned(), 1)]);
    assert!(tested.is_idle());
}

#[test]
fn only_the_last_cancel_stops_the_function() {
    let (mut tested, now) = (dispatcher(10), Instant::now());
    let cancel = |id: u32| notification("rpc.cancel", (id,));
    from(&mut tested, "a", &keyed(1, "blocking", 1_000), now);
    from(&mut tested, "b", &keyed(2, "blocking", 1_000), now);
    start(&tested, 0);
    let context = tested.executor.started[0].invocation.context().clone();
    assert_eq!(code(&from(&mut tested, "a", &cancel(1), now)), ("Cancelled".into(), Ran::Yes));
    assert!(completions(&mut tested, now).is_empty() && !context.is_cancelled());
    assert_eq!(code(&from(&mut tested, "b", &cancel(2), now)), ("Cancelled".into(), Ran::Yes));
    assert!(completions(&mut tested, now).is_empty() && context.is_cancelled());
    // The function was cancelled after it had begun. This is the outcome, whatever it returns
    // later.
    let again = from(&mut tested, "a", &keyed(3, "blocking", 1_000), now);
    assert_eq!(code(&again), ("Cancelled".into(), Ran::Yes));
    assert!(finish(&mut tested).is_empty());
    assert!(completions(&mut tested, now).is_empty() && tested.is_idle());
}

#[test]
fn retry_before_the_stop_keeps_function_running() {
    let (mut tested, now) = (dispatcher(10), Instant::now());
    from(&mut tested, "a", &keyed(1, "blocking", 1_000), now);
    // The completion that would stop the function is still in the queue when `b` sends its request.
    let (a, b) = (ReplyTo::of(&["a", ""]), ReplyTo::of(&["b", ""]));
    send_from(&mut tested, a, &notification("rpc.cancel", (1,)), now);
    send_from(&mut tested, b, &keyed(2, "blocking", 1_000), now);
    assert!(completions(&mut tested, now).is_empty());
    assert_eq!(tested.executor.stopped, 0);
    finish(&mut tested);
    assert_eq!(answered(&completions(&mut tested, now)), [("b".to_owned(), 2)]);
}

#[test]
fn call_that_never_started_is_not_cached() {
    let (mut tested, now) = (dispatcher(10), Instant::now());
    from(&mut tested, "a", &keyed(1, "blocking", 1_000), now);
    let late = now + Duration::from_secs(1);
    let mut out = Vec::new();
    tested.handle_timeout(late, &mut out);
    out.extend(completions(&mut tested, late));
    assert_eq!(code(&out), ("DeadlineExceeded".into(), Ran::No));
    assert_eq!(answered(&out), [("a".to_owned(), 1)]);
    assert!(tested.is_idle());
    tested.executor.started.clear();
    assert!(from(&mut tested, "a", &keyed(2, "blocking", 1_000), late).is_empty());
    assert_eq!(tested.executor.started.len(), 1);
}

#[test]
fn every_waiter_has_its_own_deadline() {
    let (mut tested, now) = (dispatcher(10), Instant::now());
    from(&mut tested, "a", &keyed(1, "blocking", 3_000), now);
    from(&mut tested, "b", &keyed(2, "blocking", 1_000), now);
    start(&tested, 0);
    let mut out = Vec::new();
    tested.handle_timeout(now + Duration::from_secs(1), &mut out);
    assert_eq!(code(&out), ("DeadlineExceeded".into(), Ran::Yes));
    assert_eq!(answered(&out), [("b".to_owned(), 2)]);
    finish(&mut tested);
    assert_eq!(answered(&completions(&mut tested, now)), [("a".to_owned(), 1)]);
}

#[test]
fn reused_key_and_full_cache_are_refused() {
    let (mut tested, now) = (dispatcher(100), Instant::now());
    from(&mut tested, "a", &keyed(1, "blocking", 1_000), now);
    let refused = from(&mut tested, "a", &keyed(2, "timed", 1_000), now);
    assert_eq!(code(&refused), ("BadRequest".into(), Ran::No));
    let other = |key: u8| {
        let mut body = keyed(3, "blocking", 1_000).to_vec();
        let at = body.windows(3).position(|part| part == b"one").unwrap();
        body[at] = key;
        Bytes::from(body)
    };
    assert!(from(&mut tested, "a", &other(b'2'), now).is_empty());
    assert!(from(&mut tested, "a", &other(b'3'), now).is_empty());
    assert_eq!(code(&from(&mut tested, "a", &other(b'4'), now)), ("Overloaded".into(), Ran::No));
    finish(&mut tested);
    completions(&mut tested, now);
    assert!(
        from(&mut tested, "a", &other(b'4'), now).is_empty(),
        "the reply of the ended call was dropped"
    );
}

#[test]
fn waiters_count_as_requests_in_flight() {
    let (mut tested, now) = (dispatcher(2), Instant::now());
    tested.executor.full = true;
    let refused = from(&mut tested, "a", &keyed(1, "blocking", 1_000), now);
    assert_eq!(code(&refused), ("Overloaded".into(), Ran::No));
    assert!(tested.is_idle());
    // The refused call is not in the cache, so that the next try begins it again.
    tested.executor.full = false;
    assert!(from(&mut tested, "a", &keyed(1, "blocking", 1_000), now).is_empty());
    assert!(from(&mut tested, "b", &keyed(2, "blocking", 1_000), now).is_empty());
    let refused = from(&mut tested, "c", &keyed(3, "blocking", 1_000), now);
    assert_eq!(code(&refused), ("Overloaded".into(), Ran::No));
    // The recorded call holds the permit of the function, and is dropped here.
    finish(&mut tested);
    assert_eq!(completions(&mut tested, now).len(), 2);
    assert!(send(&mut tested, &request(1, "blocking", None), now).is_empty());
}

#[test]
fn abort_answers_every_waiter() {
    let (mut tested, now) = (dispatcher(10), Instant::now());
    from(&mut tested, "a", &keyed(1, "blocking", 1_000), now);
    from(&mut tested, "b", &keyed(2, "blocking", 1_000), now);
    assert_eq!(tested.running(), BTreeMap::from([("blocking", 1)]));
    let mut out = Vec::new();
    tested.abort_all(now, &mut out);
    out.extend(completions(&mut tested, now));
    assert_eq!(answered(&out), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
}
