//! Tests of the dispatcher with an executor that records calls, and with a clock that the test
//! sets.

use std::{collections::VecDeque, time::Duration};

use super::{draining::CROSSING, *};
use crate::{
    function::Signature,
    handler::{Entry, HandlerFuture},
    outlet::Outlet,
    peer::PeerId,
    protocol::{
        outgoing::EncodedArgs,
        request::Head,
        response::{self, ServerMessage},
    },
    server::{
        completion::{Completion, CompletionQueue},
        executor::Started,
        gate::Gate,
        invoke::StreamFn,
        registry::{Registry, States},
        reply_cache::CacheLimits,
        service::ServiceLimits,
        workers::JobId,
    },
};

mod abort;
mod keyed;

/// An executor that runs nothing, and records the functions that it should start and stop.
#[derive(Debug, Default)]
struct RecordingExecutor {
    started: VecDeque<AdmittedCall>,
    full: bool,
    stopped: usize,
    completions: CompletionQueue,
}

impl Execute for RecordingExecutor {
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

    fn run_stream(
        &mut self,
        _: StreamFn,
        _: Execution,
        _: Outlet,
        _: AdmittedCall,
    ) -> Result<Started, ()> {
        unreachable!("these tests have no streams")
    }

    fn flush(&mut self, _: Instant) {}

    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn completions(&self) -> &CompletionQueue {
        &self.completions
    }

    fn watch(&mut self, _: Instant) {}

    fn stop(&mut self, _: &mut Started) {
        self.stopped += 1;
    }
}

type Tested = Dispatcher<RecordingExecutor>;

fn dispatcher(max_in_flight: usize) -> Tested {
    Dispatcher::new(service(max_in_flight), RecordingExecutor::default())
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
        Entry::new(&BLOCKING, Handler::Sync(handler), &[], "", 0, ""),
        Entry::new(&INLINE, Handler::Sync(handler), &[], "", 0, ""),
        Entry::new(&TIMED, Handler::Sync(handler), &[], "", 0, ""),
    ];
    let limits = ServiceLimits {
        max_in_flight,
        max_bytes_in_flight: 2_000,
        max_unread_bytes: 1_000_000,
        max_message_size: 1_000,
        stream_window: 250,
        stream_idle_timeout: Duration::from_secs(30),
        reply_cache: CacheLimits { ttl: Duration::from_secs(60), calls: 3, bytes: 10_000 },
    };
    Arc::new(Service::new(
        Registry::new(&ENTRIES, &States::new()).unwrap(),
        Gate::default(),
        None,
        limits,
    ))
}

fn client() -> ReplyTo {
    ReplyTo::of(&["client", ""])
}

fn request(id: u32, method: &'static str, timeout_ms: Option<u32>) -> Bytes {
    EncodedArgs::dynamic(method, &()).into_message(Head::Request {
        id: MsgId(id),
        timeout_ms,
        options: None,
    })
}

fn notification(method: &'static str, params: impl serde::Serialize) -> Bytes {
    EncodedArgs::dynamic(method, &params).into_message(Head::NOTIFICATION)
}

fn peer(name: &'static str) -> PeerId {
    PeerId::unverified(Bytes::from_static(name.as_bytes()))
}

fn send(tested: &mut Tested, body: &Bytes, now: Instant) -> Vec<Outbound> {
    send_from(tested, client(), body, now)
}

fn send_from(tested: &mut Tested, client: ReplyTo, body: &Bytes, now: Instant) -> Vec<Outbound> {
    let mut out = Vec::new();
    tested.handle_message(client, body, now, &mut out);
    out
}

/// Returns the error kind and `ran` of the only reply, or `"ok"` for a successful one.
fn code(replies: &[Outbound]) -> (String, Ran) {
    let [reply] = replies else { panic!("one reply was expected: {replies:?}") };
    match response::parse_response(&reply.body).expect("a response") {
        Ok(_) => ("ok".to_owned(), Ran::Yes),
        Err(error) => (format!("{:?}", error.kind()), error.ran()),
    }
}

/// Ends the function that was started first, and returns the outbound messages.
fn finish(tested: &mut Tested) -> Vec<Outbound> {
    let call = tested.executor.started.pop_front().expect("a function was started");
    let result = call.invocation.respond(|writer| writer.value(&7));
    complete(tested, Completion::Ended { ticket: call.ticket, result })
}

fn complete(tested: &mut Tested, completion: Completion) -> Vec<Outbound> {
    let mut out = Vec::new();
    tested.handle_completion(completion, Instant::now(), &mut out);
    out
}

#[test]
fn inline_call_is_answered_at_once() {
    let mut tested = dispatcher(10);
    let replies = send(&mut tested, &request(1, "inlined", None), Instant::now());
    assert_eq!(code(&replies).0, "ok");
    assert!(tested.is_idle());
}

#[test]
fn blocking_call_is_answered_when_it_ends() {
    let mut tested = dispatcher(10);
    assert!(send(&mut tested, &request(1, "blocking", None), Instant::now()).is_empty());
    assert!(!tested.is_idle());
    let replies = finish(&mut tested);
    assert_eq!(replies[0].reply_to, client());
    assert_eq!(code(&replies).0, "ok");
    assert!(tested.is_idle());
}

#[test]
fn client_opts_in_to_batches() {
    let takes_batches = |tested: &Tested| {
        tested.sessions().capabilities(&client()).contains(control::Capabilities::BATCHES)
    };
    let mut tested = dispatcher(10);
    assert!(!takes_batches(&tested), "the client has not sent rpc.hello");
    for (greeting, takes) in [
        (Some(("batches", Some(true))), true),
        (Some(("batches", Some(false))), false),
        (Some(("batches", None)), false),
        (Some(("later", Some(true))), false),
        (None, false),
    ] {
        let greeting: BTreeMap<_, _> = greeting.into_iter().collect();
        let head = Head::request(MsgId(1));
        let hello = EncodedArgs::dynamic("rpc.hello", &(&greeting,)).into_message(head);
        assert_eq!(code(&send(&mut tested, &hello, Instant::now())).0, "ok");
        assert_eq!(takes_batches(&tested), takes, "{greeting:?}");
    }
}

#[test]
fn notification_runs_without_a_response() {
    let mut tested = dispatcher(10);
    for method in ["blocking", "inlined", "missing", "rpc.unknown"] {
        assert!(send(&mut tested, &notification(method, ()), Instant::now()).is_empty());
    }
    assert_eq!(tested.executor.started.len(), 1);
    assert!(finish(&mut tested).is_empty());
    assert!(tested.is_idle());
}

#[test]
fn ended_request_releases_capacity() {
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
fn greedy_peer_leaves_capacity_for_others() {
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
    assert_eq!(greedy(&mut tested, &small), 9, "all but the reserve");
    assert!(other(&mut tested, &small));
    // Requests that have ended release capacity for the same peer.
    for _ in 0..9 {
        finish(&mut tested);
    }
    assert_eq!(code(&finish(&mut tested)).0, "ok");
    assert_eq!(greedy(&mut tested, &small), 9);

    let mut tested = dispatcher(1_000);
    let large = EncodedArgs::dynamic("blocking", &("x".repeat(80),));
    let large = large.into_message(Head::request(MsgId(1)));
    assert!((90..100).contains(&large.len()));
    let admitted = greedy(&mut tested, &large);
    assert_eq!(admitted, (2_000 - 125) / large.len(), "all but the reserve of a sixteenth");
    assert_eq!(code(&send(&mut tested, &large, now)), ("Overloaded".into(), Ran::No));
    assert!(other(&mut tested, &large));
}

#[test]
fn full_worker_queue_refuses_request() {
    let mut tested = dispatcher(10);
    tested.executor.full = true;
    let replies = send(&mut tested, &request(1, "blocking", None), Instant::now());
    assert_eq!(code(&replies), ("Overloaded".into(), Ran::No));
    assert!(tested.is_idle());
}

#[test]
fn draining_server_refuses_only_new_calls() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    assert_eq!(code(&send(&mut tested, &request(1, "rpc.hello", None), now)).0, "ok");
    send(&mut tested, &request(2, "blocking", None), now);
    let mut out = Vec::new();
    tested.drain(now, &mut out);
    assert_eq!(response::classify(&out[0].body), ServerMessage::GoAway);
    let later = now + CROSSING;
    for method in ["blocking", "inlined"] {
        let replies = send(&mut tested, &request(3, method, None), later);
        assert_eq!(code(&replies), ("ShuttingDown".into(), Ran::No));
    }
    assert_eq!(code(&send(&mut tested, &request(4, "rpc.ping", None), later)).0, "ok");
    assert_eq!(code(&finish(&mut tested)).0, "ok");
    assert!(tested.is_idle());
}

#[test]
fn calls_that_cross_the_go_away_are_run() {
    let mut tested = dispatcher(10);
    let (now, mut out) = (Instant::now(), Vec::new());
    let client = |name| ReplyTo::of(&[name, ""]);
    send_from(&mut tested, client("told"), &request(1, "rpc.hello", None), now);
    tested.drain(now, &mut out);
    let soon = now + CROSSING / 2;
    let body = request(2, "inlined", None);
    let replies = send_from(&mut tested, client("told"), &body, soon);
    assert_eq!(code(&replies).0, "ok");
    let replies = send_from(&mut tested, client("stranger"), &body, soon);
    assert_eq!(code(&replies), ("ShuttingDown".into(), Ran::No));
    send_from(&mut tested, client("told"), &notification("blocking", ()), soon);
    assert_eq!(tested.executor.started.len(), 1);
}

#[test]
fn all_clients_behind_a_proxy_get_go_away() {
    let mut tested = dispatcher(10);
    let (now, mut out) = (Instant::now(), Vec::new());
    let clients = ["a", "b"].map(|client| ReplyTo::of(&["proxy", client, ""]));
    for client in &clients {
        out.extend(send_from(&mut tested, client.clone(), &request(1, "rpc.hello", None), now));
    }
    out.clear();
    tested.drain(now, &mut out);
    for client in &clients {
        assert!(out.iter().any(|reply| reply.reply_to == *client), "{client:?}");
    }
    assert!(!tested.sessions().is_empty());
    tested.handle_peer_gone(&peer("proxy"), now);
    assert!(tested.sessions().is_empty());
}

#[test]
fn running_functions_are_counted_by_name() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    for (id, method) in [(1, "blocking"), (2, "timed"), (3, "blocking")] {
        send(&mut tested, &request(id, method, None), now);
    }
    assert_eq!(tested.running(), BTreeMap::from([("blocking", 2), ("timed", 1)]));
}

#[test]
fn malformed_request_is_refused_with_its_msgid() {
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
fn oversized_messages_are_refused() {
    let mut tested = dispatcher(10);
    let now = Instant::now();
    let long = EncodedArgs::dynamic("inlined", &("x".repeat(1_000),));
    let body = long.into_message(Head::request(MsgId(1)));
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
fn unknown_function_error_suggests_names() {
    let mut tested = dispatcher(10);
    let replies = send(&mut tested, &request(1, "bloking", None), Instant::now());
    let error = response::parse_response(&replies[0].body).unwrap().unwrap_err();
    assert_eq!(error.message(), "there is no function `bloking`; did you mean `blocking`?");
    assert_eq!(error.ran(), Ran::No);
    let replies = send(&mut tested, &request(1, "rpc.nothing", None), Instant::now());
    assert_eq!(code(&replies), ("UnknownFunction".into(), Ran::No));
}
