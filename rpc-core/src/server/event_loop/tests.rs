//! Tests of the event loop with bodies that arrive on a listener without a transport.

use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;

use super::*;
use crate::{
    function::{Execution, Signature},
    handler::{Entry, Handler, HandlerResult, Invocation},
    protocol::{
        MsgId,
        batch::Batch,
        outgoing::EncodedArgs,
        request::Head,
        response::{self, ServerMessage},
    },
    server::{
        config::ServerConfig,
        gate::Gate,
        registry::{Registry, States},
        service::Service,
        workers::{PoolSize, Workers},
    },
    util::fair_share::Lease,
};

/// A listener that receives one event at most, and records the bodies that it should send.
struct RecordingListener {
    event: Option<Event>,
    sent: Arc<Mutex<Vec<Bytes>>>,
}

impl Listener for RecordingListener {
    fn poll_recv(&mut self, _: &mut Context<'_>) -> Poll<Event> {
        self.event.take().map_or(Poll::Pending, Poll::Ready)
    }

    fn send(&mut self, reply_to: ReplyTo, body: Bytes, _: Lease) -> bool {
        assert_eq!(reply_to, client());
        self.sent.lock().unwrap().push(body);
        true
    }

    fn stop_accepting(&mut self) {}
}

fn client() -> ReplyTo {
    ReplyTo::of(&["client", ""])
}

/// Makes an event loop that serves the inline function `f`, and the list of bodies that it sends.
fn event_loop() -> (EventLoop, Arc<Mutex<Vec<Bytes>>>) {
    event_loop_with(None)
}

/// Makes an event loop whose listener receives `event`.
fn event_loop_with(event: Option<Event>) -> (EventLoop, Arc<Mutex<Vec<Bytes>>>) {
    fn handler(invocation: &Invocation) -> HandlerResult {
        invocation.respond(|writer| writer.value(&7))
    }
    static SIGNATURE: Signature =
        Signature::new("f", "", &[]).with_execution(Execution::Inline, false);
    static ENTRIES: [Entry; 1] = [Entry::new(&SIGNATURE, Handler::Sync(handler), &[], "", 0, "")];
    let registry = Registry::new(&ENTRIES, &States::new()).unwrap();
    let service = Arc::new(Service::new(
        registry,
        Gate::default(),
        None,
        ServerConfig::default().service_limits(),
    ));
    let completions = CompletionQueue::default();
    let workers = Arc::new(Workers::start(PoolSize { threads: 0, max_threads: 0 }, 0).unwrap());
    let executor = Executor::new(workers, Handle::current(), completions.clone());
    let sent = Arc::default();
    let event_loop = EventLoop::new(
        Box::new(RecordingListener { event, sent: Arc::clone(&sent) }),
        Dispatcher::new(service, executor),
        completions,
        watch::channel(Lifecycle::Serving).1,
    );
    (event_loop, sent)
}

fn request(id: u32) -> Bytes {
    let head = Head::request(MsgId(id));
    EncodedArgs::dynamic("f", &()).into_message(head)
}

fn batch_of(messages: &[Bytes]) -> Bytes {
    let mut batch = Batch::default();
    for message in messages {
        batch.begin(message.len(), 0).extend_from_slice(message);
    }
    batch.take().expect("the batch is not empty")
}

fn answers(event_loop: &EventLoop) -> Vec<ServerMessage> {
    event_loop.out.iter().map(|out| response::classify(&out.body)).collect()
}

#[tokio::test]
async fn each_message_of_a_batch_is_answered() {
    let (mut event_loop, _) = event_loop();
    let body = batch_of(&[
        request(1),
        EncodedArgs::dynamic("f", &()).into_message(Head::NOTIFICATION),
        batch_of(&[request(2), request(3)]),
        Bytes::from_static(b"nonsense"),
        request(4),
    ]);
    event_loop.handle_event(Event::Body(client(), body), Instant::now());
    let answer = |id| ServerMessage::Response { id: MsgId(id), failed: false };
    // Neither a nested batch nor nonsense is a message. The answers have no msgid.
    let unknown = || ServerMessage::Other;
    assert_eq!(answers(&event_loop), [answer(1), unknown(), unknown(), answer(4)]);
}

#[tokio::test]
async fn messages_before_malformed_bytes_are_answered() {
    let (mut event_loop, _) = event_loop();
    let mut body = batch_of(&[request(1), request(2)]).to_vec();
    body.pop();
    event_loop.handle_event(Event::Body(client(), body.into()), Instant::now());
    let answer = ServerMessage::Response { id: MsgId(1), failed: false };
    assert_eq!(answers(&event_loop), [answer, ServerMessage::Other]);
    let error = String::from_utf8_lossy(&event_loop.out[1].body);
    assert!(error.contains("bad_request") && error.contains("a batch holds"), "{error}");
}

#[tokio::test]
async fn replies_are_sent_before_a_long_batch_ends() {
    let (mut event_loop, sent) = event_loop();
    let body = batch_of(&[(); 300].map(|()| request(1)));
    event_loop.handle_event(Event::Body(client(), body), Instant::now());
    assert_eq!(sent.lock().unwrap().len(), MAX_OUTBOUND);
    assert_eq!(event_loop.out.len(), 300 - MAX_OUTBOUND);
    event_loop.flush();
    assert_eq!(sent.lock().unwrap().len(), 300);
}

#[tokio::test]
async fn empty_batches_spend_the_yield_budget() {
    let (mut event_loop, _) = event_loop();
    let mut count = 0;
    while !event_loop.budget.is_spent() {
        let empty = Bytes::from_static(&[0x91, 3]);
        event_loop.handle_event(Event::Body(client(), empty), Instant::now());
        count += 1;
        assert!(count < 10_000);
    }
}

#[tokio::test]
async fn requests_do_not_wait_for_the_last_completion() {
    let (mut event_loop, sent) = event_loop_with(Some(Event::Body(client(), request(1))));
    let (_stage, lifecycle) = watch::channel(Lifecycle::Serving);
    event_loop.lifecycle = lifecycle;
    for _ in 0..1_000_000 {
        event_loop.completions.send(Completion::Unwanted(Ticket(1)));
    }
    let mut run = pin!(event_loop.run());
    for _ in 0..10 {
        assert!(futures_util::poll!(run.as_mut()).is_pending());
    }
    assert_eq!(sent.lock().unwrap().len(), 1);
}
