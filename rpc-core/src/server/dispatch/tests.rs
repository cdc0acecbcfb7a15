//! The dispatcher with a runner that only notes what it is asked, and a clock that the test sets.

use std::collections::VecDeque;

use super::*;
use crate::{
    function::Signature,
    handler::{Entry, HandlerFuture},
    protocol::{
        outgoing::EncodedArgs,
        request::Head,
        response::{self, ServerMessage},
    },
    server::{
        completion::CompletionQueue,
        registry::{Registry, States},
        reply_cache::CacheLimits,
        service::ServiceLimits,
        workers::JobId,
    },
};

mod keyed;

/// An executor that only notes what is started and stopped.
#[derive(Debug, Default)]
struct Notes {
    started: VecDeque<AdmittedCall>,
    full: bool,
    stopped: usize,
    completions: CompletionQueue,
}

impl Execute for Notes {
    fn run_sync(
        &mut self,
        _: fn(&Invocation) -> HandlerResult,
        call: AdmittedCall,
    ) -> Result<Started, ()> {
        if self.full {
            return Err(());
        }
        self.started.push_back(call);
        Ok(Started::Job(JobId::default()))
    }

    fn run_async(&mut self, _: fn(Invocation) -> HandlerFuture, _: AdmittedCall) -> Started {
        unreachable!("these tests have no async function")
    }

    fn flush(&mut self) {}

    fn completions(&self) -> &CompletionQueue {
        &self.completions
    }

    fn stop(&mut self, _: &Started) {
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
    static BLOCKING: Signature = Signature::new("blocking", "", &[]);
    static INLINE: Signature =
        Signature::new("inlined", "", &[]).with_execution(Execution::Inline, false);
    static TIMED: Signature = Signature::new("timed", "", &[]).with_timeout_nanos(2_000_000_000);
    static ENTRIES: [Entry; 3] = [
        Entry::new(&BLOCKING, Handler::Sync(handler), &[], "", 0),
        Entry::new(&INLINE, Handler::Sync(handler), &[], "", 0),
        Entry::new(&TIMED, Handler::Sync(handler), &[], "", 0),
    ];
    let limits = ServiceLimits {
        max_in_flight,
        max_bytes_in_flight: 2_000,
        max_message_size: 1_000,
        reply_cache: CacheLimits { ttl: Duration::from_secs(60), calls: 3, bytes: 10_000 },
    };
    Arc::new(Service::new(Registry::new(&ENTRIES, &States::new()).unwrap(), limits))
}

fn client() -> ReplyTo {
    ReplyTo::of(&["client", ""])
}

fn request(id: u32, method: &'static str, timeout_ms: Option<u32>) -> Bytes {
    EncodedArgs::dynamic(method, &()).into_message(Head::Request {
        id: MsgId(id),
        timeout_ms,
        key: None,
    })
}

fn notification(method: &'static str, params: impl serde::Serialize) -> Bytes {
    EncodedArgs::dynamic(method, &params).into_message(Head::Notification)
}

fn peer(name: &'static str) -> PeerId {
    PeerId::new(Bytes::from_static(name.as_bytes()))
}

fn send(tested: &mut Tested, body: &Bytes, now: Instant) -> Vec<Outbound> {
    send_from(tested, client(), body, now)
}

fn send_from(tested: &mut Tested, client: ReplyTo, body: &Bytes, now: Instant) -> Vec<Outbound> {
    let mut out = Vec::new();
    tested.handle_message(client, body, now, &mut out);
    out
}

/// The only reply's error code and `ran`, or `"ok"`.
fn code(replies: &[Outbound]) -> (String, Ran) {
    let [reply] = replies else { panic!("one reply was expected: {replies:?}") };
    match response::parse_response(&reply.body).expect("a response") {
        Ok(_) => ("ok".to_owned(), Ran::Yes),
        Err(error) => (format!("{:?}", error.kind()), error.ran()),
    }
}

/// Ends the function that was started first, and returns the messages that this causes.
fn finish(tested: &mut Tested) -> Vec<Outbound> {
    let call = tested.executor.started.pop_front().expect("something was started");
    let result = call.invocation.respond(|writer| writer.value(&7));
    complete(tested, Completion::Ended { ticket: call.ticket, result })
}

fn complete(tested: &mut Tested, completion: Completion) -> Vec<Outbound> {
    let mut out = Vec::new();
    tested.handle_completion(completion, Instant::now(), &mut out);
    out
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
    assert!(send(&mut tested, &request(1, "blocking", None), Instant::now()).is_empty());
    assert!(!tested.is_idle());
    let replies = finish(&mut tested);
    assert_eq!(replies[0].reply_to, client());
    assert_eq!(code(&replies).0, "ok");
    assert!(tested.is_idle());
}

#[test]
fn only_who_said_so_is_sent_batches() {
    let takes_batches = |tested: &Tested| {
        tested.sessions().capabilities(&client()).contains(control::Capabilities::BATCHES)
    };
    let mut tested = dispatcher(10);
    assert!(!takes_batches(&tested), "it has said nothing");
    for (greeting, takes) in [
        (Some(("batches", Some(true))), true),
        (Some(("batches", Some(false))), false),
        (Some(("batches", None)), false),
        (Some(("later", Some(true))), false),
        (None, false),
    ] {
        let greeting: BTreeMap<_, _> = greeting.into_iter().collect();
        let head = Head::Request { id: MsgId(1), timeout_ms: None, key: None };
        let hello = EncodedArgs::dynamic("rpc.hello", &(&greeting,)).into_message(head);
        assert_eq!(code(&send(&mut tested, &hello, Instant::now())).0, "ok");
        assert_eq!(takes_batches(&tested), takes, "{greeting:?}");
    }
}

#[test]
fn a_notification_runs_and_is_not_answered() {
    let mut tested = dispatcher(10);
    for method in ["blocking", "inlined", "missing", "rpc.unknown"] {
        assert!(send(&mut tested, &notification(method, ()), Instant::now()).is_empty());
    }
    assert_eq!(tested.executor.started.len(), 1);
    assert!(finish(&mut tested).is_empty());
    assert!(tested.is_idle());
}

#[test]
fn beyond_the_limit_requests_are_refused_and_a_finished_one_makes_room() {
    let mut tested = dispatcher(1);
    let now = Instant::now();
    assert!(send(&mut tested, &request(1, "blocking", None), now).is_empty());
    assert_eq!(
        code(&send(&mut tested, &request(2, "blocking", None), now)),
        ("Overloaded".into(), Ran::No)
    );
    finish(&mut tested);
    assert!(send(&mut tested, &request(3, "blocking", None), now).is_empty());
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
        send_from(tested, ReplyTo::of(&["other", ""]), body, now).is_empty()
    };
    let mut tested = dispatcher(10);
    let small = request(1, "blocking", None);
    assert_eq!(greedy(&mut tested, &small), 9, "all but what is kept back");
    assert!(other(&mut tested, &small));
    // What has ended makes room for it again.
    for _ in 0..9 {
        finish(&mut tested);
    }
    assert_eq!(code(&finish(&mut tested)).0, "ok");
    assert_eq!(greedy(&mut tested, &small), 9);

    let mut tested = dispatcher(1_000);
    let large = EncodedArgs::dynamic("blocking", &("x".repeat(80),));
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
    tested.executor.full = true;
    let replies = send(&mut tested, &request(1, "blocking", None), Instant::now());
    assert_eq!(code(&replies), ("Overloaded".into(), Ran::No));
    assert!(tested.is_idle());
}

#[test]
fn time_that_runs_out_is_answered_once_with_the_truth() {
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
            assert!(!tested.is_idle(), "the function runs on and holds its place");
            assert!(finish(&mut tested).is_empty());
        }
        assert!(tested.is_idle());
    }
}

#[test]
fn what_was_taken_by_a_worker_and_ended_before_it_began_never_starts() {
    let mut tested = dispatcher(10);
    send(&mut tested, &request(1, "blocking", None), Instant::now());
    // A worker has it in hand when the cancel comes.
    let work = tested.executor.started.pop_front().unwrap();
    let replies = send(&mut tested, &notification("rpc.cancel", (1,)), Instant::now());
    assert_eq!(code(&replies), ("Cancelled".into(), Ran::No));
    let result = run_inline(|_| unreachable!(), &work.invocation, Instant::now());
    let completion = Completion::Ended { ticket: work.ticket, result };
    assert!(complete(&mut tested, completion).is_empty());
}

#[test]
fn the_functions_timeout_holds_when_the_caller_sends_none() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    send(&mut tested, &request(1, "timed", None), now);
    assert_eq!(tested.next_timeout(), Some(now + Duration::from_secs(2)));
    let mut tested = dispatcher(10);
    send(&mut tested, &request(1, "timed", Some(500)), now);
    assert_eq!(tested.next_timeout(), Some(now + Duration::from_millis(500)));
}

#[test]
fn a_cancel_hits_every_call_of_that_id_and_each_is_answered() {
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
fn another_client_behind_the_same_proxy_cannot_be_hit() {
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
fn a_peer_that_goes_takes_its_requests_along_but_not_its_notifications() {
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

#[test]
fn draining_refuses_what_is_new_and_finishes_what_runs() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    assert_eq!(code(&send(&mut tested, &request(1, "rpc.hello", None), now)).0, "ok");
    send(&mut tested, &request(2, "blocking", None), now);
    let mut out = Vec::new();
    tested.drain(&mut out);
    assert_eq!(response::classify(&out[0].body), ServerMessage::GoAway);
    for method in ["blocking", "inlined"] {
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
    let clients = ["a", "b"].map(|client| ReplyTo::of(&["proxy", client, ""]));
    for client in &clients {
        out.extend(send_from(&mut tested, client.clone(), &request(1, "rpc.hello", None), now));
    }
    out.clear();
    tested.drain(&mut out);
    for client in &clients {
        assert!(out.iter().any(|reply| reply.reply_to == *client), "{client:?}");
    }
    assert!(!tested.sessions().is_empty());
    tested.handle_peer_gone(&peer("proxy"), now);
    assert!(tested.sessions().is_empty());
}

#[test]
fn what_still_runs_can_be_named() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    for (id, method) in [(1, "blocking"), (2, "timed"), (3, "blocking")] {
        send(&mut tested, &request(id, method, None), now);
    }
    assert_eq!(tested.running(), BTreeMap::from([("blocking", 2), ("timed", 1)]));
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
    let long = EncodedArgs::dynamic("inlined", &("x".repeat(1_000),));
    let body = long.into_message(Head::Request { id: MsgId(1), timeout_ms: None, key: None });
    let size = body.len();
    let expected = format!("TooLarge {{ size: {size}, limit: 1000 }}");
    assert_eq!(code(&send(&mut tested, &body, now)), (expected, Ran::No));

    send(&mut tested, &request(2, "blocking", None), now);
    let ticket = tested.executor.started.pop_front().unwrap().ticket;
    let result = Ok(Bytes::from(vec![0; 1_001]));
    let replies = complete(&mut tested, Completion::Ended { ticket, result });
    assert_eq!(code(&replies), ("TooLarge { size: 1001, limit: 1000 }".into(), Ran::Yes));
}

#[test]
fn an_unknown_function_is_told_with_its_neighbours() {
    let mut tested = dispatcher(10);
    let replies = send(&mut tested, &request(1, "bloking", None), Instant::now());
    let error = response::parse_response(&replies[0].body).unwrap().unwrap_err();
    assert_eq!(error.message(), "there is no function `bloking`; did you mean `blocking`?");
    assert_eq!(error.ran(), Ran::No);
    let replies = send(&mut tested, &request(1, "rpc.nothing", None), Instant::now());
    assert_eq!(code(&replies), ("UnknownFunction".into(), Ran::No));
}
