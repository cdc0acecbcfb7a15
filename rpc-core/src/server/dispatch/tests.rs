//! The dispatcher with a runner that only notes what it is asked, and a clock that the test sets.

use std::collections::VecDeque;

use super::*;
use crate::{
    args::EncodedArgs,
    function::{Entry, HandlerFuture, Signature},
    message::{Head, Incoming},
    registry::States,
    server::{outbox::Outbox, reply_memory::Limits},
};

mod keyed;

/// Notes what is started and stopped.
#[derive(Debug, Default)]
struct Notes {
    started: VecDeque<Admitted>,
    full: bool,
    stopped: usize,
    outbox: Outbox,
}

impl Run for Notes {
    fn run_sync(
        &mut self,
        _: fn(&Invocation) -> HandlerResult,
        work: Admitted,
    ) -> Result<Running, ()> {
        if self.full {
            return Err(());
        }
        self.started.push_back(work);
        Ok(Running::Job(crate::server::pool::JobId::default()))
    }

    fn run_async(&mut self, _: fn(Invocation) -> HandlerFuture, _: Admitted) -> Running {
        unreachable!("these tests have no async function")
    }

    fn begin(&mut self) {}

    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn stop(&mut self, _: &Running) {
        self.stopped += 1;
    }
}

type Tested = Dispatcher<Notes>;

fn dispatcher(max_in_flight: usize) -> Tested {
    Dispatcher::new(service(max_in_flight), Notes::default())
}

fn service(max_in_flight: usize) -> Arc<Service> {
    fn handler(invocation: &Invocation) -> HandlerResult {
        invocation.params()?.finish()?;
        invocation.respond(|writer| writer.value(&7))
    }
    static POOLED: Signature = Signature::new("pooled", "", &[]);
    static INLINE: Signature = Signature::new("inlined", "", &[]).with_kind(Kind::Inline, false);
    static TIMED: Signature = Signature::new("timed", "", &[]).with_timeout_nanos(2_000_000_000);
    static ENTRIES: [Entry; 3] = [
        Entry::new(&POOLED, Handler::Sync(handler), &[], "", 0),
        Entry::new(&INLINE, Handler::Sync(handler), &[], "", 0),
        Entry::new(&TIMED, Handler::Sync(handler), &[], "", 0),
    ];
    let service = Service {
        registry: Registry::new(&ENTRIES, &States::new()).unwrap(),
        admission: Admission::new(max_in_flight, 2_000, 1_000),
        max_message_size: 1_000,
        instance: "one".to_owned(),
        draining: AtomicBool::new(false),
        replies: Mutex::new(ReplyMemory::new(Limits {
            time: Duration::from_secs(60),
            calls: 3,
            bytes: 10_000,
        })),
    };
    Arc::new(service)
}

fn client() -> Envelope {
    Envelope::of(&["client", ""])
}

fn request(id: u32, method: &str, timeout_ms: Option<u32>) -> Bytes {
    EncodedArgs::dynamic(method.to_owned(), &()).into_message(Head::Request {
        id: MsgId(id),
        timeout_ms,
        key: None,
    })
}

fn notification(method: &str, params: impl serde::Serialize) -> Bytes {
    EncodedArgs::dynamic(method.to_owned(), &params).into_message(Head::Notification)
}

fn send(tested: &mut Tested, body: &Bytes, now: Instant) -> Vec<Reply> {
    let mut out = Vec::new();
    tested.on_body(client(), body, now, &mut out, |_, _| {});
    out
}

/// The only reply's error code and `ran`, or `"ok"`.
fn code(replies: &[Reply]) -> (String, Ran) {
    let [reply] = replies else { panic!("one reply was expected: {replies:?}") };
    match message::parse_response(&reply.body).expect("a response") {
        Ok(_) => ("ok".to_owned(), Ran::Yes),
        Err(error) => (format!("{:?}", error.kind()), error.ran()),
    }
}

fn finish(tested: &mut Tested) -> Vec<Reply> {
    let work = tested.run.started.pop_front().expect("something was started");
    let result = work.invocation.respond(|writer| writer.value(&7));
    tested.on_outcome(Outcome { ticket: work.ticket, result }, Instant::now()).into_iter().collect()
}

#[test]
fn an_inline_function_is_answered_at_once() {
    let mut tested = dispatcher(10);
    let replies = send(&mut tested, &request(1, "inlined", None), Instant::now());
    assert_eq!(code(&replies).0, "ok");
    assert!(tested.is_idle());
}

#[test]
fn a_pooled_function_is_answered_when_it_has_ended() {
    let mut tested = dispatcher(10);
    assert!(send(&mut tested, &request(1, "pooled", None), Instant::now()).is_empty());
    assert!(!tested.is_idle());
    let replies = finish(&mut tested);
    assert_eq!(replies[0].envelope, client());
    assert_eq!(code(&replies).0, "ok");
    assert!(tested.is_idle());
}

fn batch_of(messages: &[Bytes]) -> Bytes {
    let mut batch = batch::Batch::default();
    for message in messages {
        batch.begin(message.len(), 0).extend_from_slice(message);
    }
    batch.take().expect("it is not empty")
}

#[test]
fn each_message_of_a_batch_is_one_of_its_own() {
    let mut tested = dispatcher(10);
    let (now, mut out) = (Instant::now(), Vec::new());
    let messages = [
        request(1, "inlined", None),
        request(2, "pooled", None),
        notification("pooled", ()),
        request(3, "missing", None),
        batch_of(&[request(4, "inlined", None), request(5, "inlined", None)]),
        Bytes::from_static(b"nonsense"),
        request(6, "inlined", None),
    ];
    assert_eq!(
        tested.on_body(client(), &batch_of(&messages), now, &mut out, |_, _| {}),
        messages.len()
    );
    assert!(out.iter().all(|reply| reply.envelope == client()));
    let ids: Vec<_> = out.iter().map(|reply| message::classify(&reply.body)).collect();
    let response = |id, failed| Incoming::Response { id: MsgId(id), failed };
    // A batch in a batch is no message, and neither is nonsense: who asked cannot be told.
    assert_eq!(
        ids,
        [
            response(1, false),
            response(3, true),
            Incoming::Other,
            Incoming::Other,
            response(6, false)
        ]
    );
    assert_eq!(tested.run.started.len(), 2);
    let cancel = notification("rpc.cancel", (2,));
    assert_eq!(
        code(&send(&mut tested, &cancel, now)).0,
        "Cancelled",
        "its envelope is the batch's"
    );
}

#[test]
fn what_a_batch_makes_can_be_sent_after_each_of_its_messages() {
    let mut tested = dispatcher(10);
    let body = batch_of(&[(); 100].map(|()| request(1, "inlined", None)));
    let (mut sent, mut out) = (0, Vec::new());
    let count = tested.on_body(client(), &body, Instant::now(), &mut out, |_, out| {
        assert_eq!(out.len(), 1);
        sent += out.drain(..).count();
    });
    assert_eq!((count, sent), (100, 100));
    let empty = Bytes::from_static(&[0x91, 3]);
    assert_eq!(
        tested.on_body(client(), &empty, Instant::now(), &mut out, |_, _| {}),
        1,
        "it costs something"
    );
}

#[test]
fn what_follows_malformed_bytes_in_a_batch_is_lost_and_what_came_before_is_not() {
    let mut tested = dispatcher(10);
    let mut out = Vec::new();
    let mut body = batch_of(&[request(1, "inlined", None), request(2, "inlined", None)]).to_vec();
    body.pop();
    assert_eq!(tested.on_body(client(), &body.into(), Instant::now(), &mut out, |_, _| {}), 2);
    assert_eq!(code(&out[..1]).0, "ok");
    let error = String::from_utf8_lossy(&out[1].body);
    assert!(error.contains("bad_request") && error.contains("a batch holds"), "{error}");
}

#[test]
fn only_who_said_so_is_sent_batches() {
    let mut tested = dispatcher(10);
    assert!(!tested.takes_batches(&client()), "it has said nothing");
    for (greeting, takes) in [
        (Some(("batches", Some(true))), true),
        (Some(("batches", Some(false))), false),
        (Some(("batches", None)), false),
        (Some(("later", Some(true))), false),
        (None, false),
    ] {
        let greeting: BTreeMap<_, _> = greeting.into_iter().collect();
        let head = Head::Request { id: MsgId(1), timeout_ms: None, key: None };
        let hello = EncodedArgs::dynamic("rpc.hello".to_owned(), &(&greeting,)).into_message(head);
        assert_eq!(code(&send(&mut tested, &hello, Instant::now())).0, "ok");
        assert_eq!(tested.takes_batches(&client()), takes, "{greeting:?}");
    }
}

#[test]
fn a_notification_runs_and_is_not_answered() {
    let mut tested = dispatcher(10);
    for method in ["pooled", "inlined", "missing", "rpc.unknown"] {
        assert!(send(&mut tested, &notification(method, ()), Instant::now()).is_empty());
    }
    assert_eq!(tested.run.started.len(), 1);
    assert!(finish(&mut tested).is_empty());
    assert!(tested.is_idle());
}

#[test]
fn beyond_the_limit_requests_are_refused_and_a_finished_one_makes_room() {
    let mut tested = dispatcher(1);
    let now = Instant::now();
    assert!(send(&mut tested, &request(1, "pooled", None), now).is_empty());
    assert_eq!(
        code(&send(&mut tested, &request(2, "pooled", None), now)),
        ("Overloaded".into(), Ran::No)
    );
    finish(&mut tested);
    assert!(send(&mut tested, &request(3, "pooled", None), now).is_empty());
}

#[test]
fn one_greedy_peer_leaves_room_for_others_in_requests_and_in_bytes() {
    let now = Instant::now();
    let greedy = |tested: &mut Tested, body: &Bytes| {
        let mut admitted = 0;
        while send(tested, body, now).is_empty() {
            admitted += 1;
        }
        admitted
    };
    let other = |tested: &mut Tested, body: &Bytes| {
        let mut out = Vec::new();
        tested.on_body(Envelope::of(&["other", ""]), body, now, &mut out, |_, _| {});
        out.is_empty()
    };
    let mut tested = dispatcher(10);
    let small = request(1, "pooled", None);
    assert_eq!(greedy(&mut tested, &small), 9, "all but what is kept back");
    assert!(other(&mut tested, &small));
    // What has ended makes room for it again.
    for _ in 0..9 {
        finish(&mut tested);
    }
    assert_eq!(code(&finish(&mut tested)).0, "ok");
    assert_eq!(greedy(&mut tested, &small), 9);

    let mut tested = dispatcher(1_000);
    let large = EncodedArgs::dynamic("pooled".to_owned(), &("x".repeat(80),));
    let large = large.into_message(Head::Request { id: MsgId(1), timeout_ms: None, key: None });
    assert!((90..100).contains(&large.len()));
    let admitted = greedy(&mut tested, &large);
    assert_eq!(admitted, (2_000 - 125) / large.len(), "all of 2,000 bytes but a sixteenth");
    assert_eq!(code(&send(&mut tested, &large, now)), ("Overloaded".into(), Ran::No));
    assert!(other(&mut tested, &large));
}

#[test]
fn a_full_queue_refuses_and_leaves_nothing_behind() {
    let mut tested = dispatcher(10);
    tested.run.full = true;
    let replies = send(&mut tested, &request(1, "pooled", None), Instant::now());
    assert_eq!(code(&replies), ("Overloaded".into(), Ran::No));
    assert!(tested.is_idle());
}

#[test]
fn time_that_runs_out_is_answered_once_with_the_truth() {
    for (started, ran) in [(false, Ran::No), (true, Ran::Yes)] {
        let mut tested = dispatcher(10);
        let now = Instant::now();
        send(&mut tested, &request(1, "pooled", Some(1_000)), now);
        if started {
            assert!(tested.run.started[0].invocation.context().start(Instant::now()));
        }
        let mut out = Vec::new();
        tested.on_time(now + Duration::from_millis(999), &mut out);
        assert!(out.is_empty());
        let late = now + Duration::from_secs(1);
        tested.on_time(late, &mut out);
        assert_eq!(code(&out), ("DeadlineExceeded".into(), ran));
        out.clear();
        tested.on_time(late, &mut out);
        assert!(out.is_empty());
        if started {
            assert!(!tested.is_idle(), "the function runs on and holds its place");
            assert!(finish(&mut tested).is_empty());
        }
        assert!(tested.is_idle());
    }
}

#[test]
fn what_was_taken_by_a_worker_and_ended_before_it_began_never_starts() {
    let mut tested = dispatcher(10);
    send(&mut tested, &request(1, "pooled", None), Instant::now());
    // A worker has it in hand when the cancel comes.
    let work = tested.run.started.pop_front().unwrap();
    let replies = send(&mut tested, &notification("rpc.cancel", (1,)), Instant::now());
    assert_eq!(code(&replies), ("Cancelled".into(), Ran::No));
    let outcome = Outcome {
        ticket: work.ticket,
        result: run_here(|_| unreachable!(), &work.invocation, Instant::now()),
    };
    assert!(tested.on_outcome(outcome, Instant::now()).is_none());
}

#[test]
fn the_functions_timeout_holds_when_the_caller_sends_none() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    send(&mut tested, &request(1, "timed", None), now);
    assert_eq!(tested.next_deadline(), Some(now + Duration::from_secs(2)));
    let mut tested = dispatcher(10);
    send(&mut tested, &request(1, "timed", Some(500)), now);
    assert_eq!(tested.next_deadline(), Some(now + Duration::from_millis(500)));
}

#[test]
fn a_cancel_hits_every_call_of_that_id_and_each_is_answered() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    for id in [1, 1, 2] {
        send(&mut tested, &request(id, "pooled", None), now);
    }
    let replies = send(&mut tested, &notification("rpc.cancel", (1,)), now);
    assert_eq!(replies.len(), 2);
    for reply in replies {
        assert_eq!(code(&[reply]), ("Cancelled".into(), Ran::No));
    }
    assert!(send(&mut tested, &notification("rpc.cancel", (1,)), now).is_empty());
    assert!(send(&mut tested, &notification("rpc.cancel", ("nonsense",)), now).is_empty());
    assert_eq!(tested.run.stopped, 2);
}

#[test]
fn another_client_behind_the_same_proxy_cannot_be_hit() {
    let mut tested = dispatcher(10);
    let (a, b) = (Envelope::of(&["proxy", "a", ""]), Envelope::of(&["proxy", "b", ""]));
    let (now, mut out) = (Instant::now(), Vec::new());
    tested.on_message(a.clone(), &request(1, "pooled", None), now, &mut out);
    tested.on_message(b, &notification("rpc.cancel", (1,)), now, &mut out);
    assert!(out.is_empty());
    tested.on_message(a, &notification("rpc.cancel", (1,)), now, &mut out);
    assert_eq!(out.len(), 1);
}

#[test]
fn a_peer_that_goes_takes_its_requests_along_but_not_its_notifications() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    send(&mut tested, &request(1, "pooled", None), now);
    send(&mut tested, &notification("pooled", ()), now);
    tested.on_peer_gone(&Bytes::from_static(b"client"), now);
    assert_eq!(tested.run.stopped, 1);
    assert!(!tested.is_idle(), "the notification still runs");
    assert!(tested.run.started[0].invocation.context().is_cancelled());
    assert!(!tested.run.started[1].invocation.context().is_cancelled());
}

#[test]
fn draining_refuses_what_is_new_and_finishes_what_runs() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    assert_eq!(code(&send(&mut tested, &request(1, "rpc.hello", None), now)).0, "ok");
    send(&mut tested, &request(2, "pooled", None), now);
    tested.service.draining.store(true, Ordering::Relaxed);
    let mut out = Vec::new();
    tested.goodbye(&mut out);
    assert_eq!(message::classify(&out[0].body), message::Incoming::Goodbye);
    for method in ["pooled", "inlined"] {
        let replies = send(&mut tested, &request(3, method, None), now);
        assert_eq!(code(&replies), ("ShuttingDown".into(), Ran::No));
    }
    assert_eq!(code(&send(&mut tested, &request(4, "rpc.ping", None), now)).0, "ok");
    assert_eq!(code(&finish(&mut tested)).0, "ok");
    assert!(tested.is_idle());
}

#[test]
fn every_client_behind_a_proxy_is_told_goodbye_and_stays_known_until_it_leaves() {
    let mut tested = dispatcher(10);
    let (now, mut out) = (Instant::now(), Vec::new());
    let clients = ["a", "b"].map(|client| Envelope::of(&["proxy", client, ""]));
    for client in &clients {
        tested.on_body(client.clone(), &request(1, "rpc.hello", None), now, &mut out, |_, _| {});
    }
    out.clear();
    tested.service.draining.store(true, Ordering::Relaxed);
    tested.goodbye(&mut out);
    for client in &clients {
        assert!(out.iter().any(|reply| reply.envelope == *client), "{client:?}");
    }
    assert!(tested.has_clients());
    tested.on_peer_gone(&Bytes::from_static(b"proxy"), now);
    assert!(!tested.has_clients());
}

#[test]
fn what_still_runs_can_be_named() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    for (id, method) in [(1, "pooled"), (2, "timed"), (3, "pooled")] {
        send(&mut tested, &request(id, method, None), now);
    }
    assert_eq!(tested.running(), BTreeMap::from([("pooled", 2), ("timed", 1)]));
}

#[test]
fn what_cannot_be_read_is_refused_with_its_id_if_that_can() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    let cases: [(&[u8], &[u8]); 6] = [
        (b"", b"\xc0"),
        (b"nonsense", b"\xc0"),
        (b"\x94\x01\x05\xc0\xc0", b"\xc0"),
        (b"\x94\x00\xa1x\xa6pooled\x90", b"\xc0"),
        (b"\x94\x00\x05\xc4\x01x\x90", b"\xce\0\0\0\x05"),
        (b"\x94\x00\x05\xa6pooled\xa1x", b"\xce\0\0\0\x05"),
    ];
    for (body, id) in cases {
        let replies = send(&mut tested, &Bytes::from_static(body), now);
        assert_eq!(replies.len(), 1, "{body:?}");
        assert!(replies[0].body[2..].starts_with(id), "{body:?}");
        assert!(replies[0].body.windows(11).any(|window| window == b"bad_request"), "{body:?}");
    }
    assert!(send(&mut tested, &Bytes::from_static(b"\x93\x02\xc0\xc0"), now).is_empty());
    assert!(tested.is_idle());
}

#[test]
fn sizes_are_checked_on_the_way_in_and_out() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    let long = EncodedArgs::dynamic("inlined".to_owned(), &("x".repeat(1_000),));
    let body = long.into_message(Head::Request { id: MsgId(1), timeout_ms: None, key: None });
    let size = body.len();
    let expected = format!("TooLarge {{ size: {size}, limit: 1000 }}");
    assert_eq!(code(&send(&mut tested, &body, now)), (expected, Ran::No));

    send(&mut tested, &request(2, "pooled", None), now);
    let ticket = tested.run.started.pop_front().unwrap().ticket;
    let outcome = Outcome { ticket, result: Ok(Bytes::from(vec![0; 1_001])) };
    let reply = tested.on_outcome(outcome, Instant::now()).unwrap();
    assert_eq!(code(&[reply]), ("TooLarge { size: 1001, limit: 1000 }".into(), Ran::Yes));
}

#[test]
fn an_unknown_function_is_told_with_its_neighbours() {
    let mut tested = dispatcher(10);
    let replies = send(&mut tested, &request(1, "poled", None), Instant::now());
    let error = message::parse_response(&replies[0].body).unwrap().unwrap_err();
    assert_eq!(error.message(), "there is no function `poled`; did you mean `pooled`?");
    assert_eq!(error.ran(), Ran::No);
    let replies = send(&mut tested, &request(1, "rpc.nothing", None), Instant::now());
    assert_eq!(code(&replies), ("UnknownFunction".into(), Ran::No));
}
