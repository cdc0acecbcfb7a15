//! The stages of a call, one at a time, for the benchmarks: each runs what a call runs, and nothing
//! here does I/O. Not public API.

use std::{
    collections::VecDeque,
    hint::black_box,
    io,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::{
    args::{Args, EncodedArgs},
    client::{
        in_flight::{InFlight as Calls, NewCall, Outgoing, Want},
        links::{LinkId, Peer},
        retry::Rules,
        room::{Room, WhenFull},
    },
    context::Context,
    function::{HandlerResult, RemoteFn},
    invocation::Invocation,
    message::{self, DEFAULT_MAX_MESSAGE_SIZE, Head, Message, MsgId},
    registry::{Registry, States},
    server::{
        admission::{Admission, Held, Permit},
        in_flight::{Caller, Entry, InFlight as Requests},
        outbox::Outbox,
        pool::Pool,
        run::{Admitted, News, Run, Runner, Ticket},
    },
    transport::Envelope,
    value::Value,
};

const HEAD: Head<'_> = Head::Request { id: MsgId(7), timeout_ms: Some(30_000), key: None };
/// Longer than any benchmark lasts.
const TIME: Duration = Duration::from_secs(3_600);
/// More than is ever in flight here.
const MANY: usize = 1_000;

/// What encoding a request takes beside its arguments: the head in front of them.
#[must_use]
pub fn encode_request<F: RemoteFn>(args: Args<F>) -> Bytes {
    args.into_encoded().into_message(HEAD)
}

/// What both sides have ready for one function, which is called again and again.
pub struct Stages {
    now: Instant,
    deadline: Instant,
    args: EncodedArgs,
    calls: Calls,
    link: LinkId,
    outgoing: Vec<Outgoing>,
    reply: Bytes,
    registry: Registry,
    admission: Admission,
    requests: Requests,
    entry: Option<Entry>,
    invocation: Invocation,
    runner: Runner,
    news: VecDeque<News>,
}

impl Stages {
    /// Calls of `F`, which must be served by this program, with `args`. One worker is started.
    ///
    /// # Errors
    /// When the worker cannot be started.
    ///
    /// # Panics
    /// If `F` is not served here, or outside of a tokio runtime.
    pub fn new<F: RemoteFn>(args: Args<F>) -> io::Result<Self> {
        let now = Instant::now();
        let deadline = now + TIME;
        let registry =
            Registry::new(Registry::linked(), &States::new()).expect("no function wants a state");
        let function =
            Arc::clone(registry.find(F::SIGNATURE.name).expect("the function is served here"));

        let random = fastrand::Rng::with_seed(7);
        let room = Room::new(MANY, DEFAULT_MAX_MESSAGE_SIZE, WhenFull::Fail);
        let mut calls = Calls::new(&["here".into()], room, random);
        let limit = DEFAULT_MAX_MESSAGE_SIZE;
        let peer = Peer { extended: true, max_message_size: limit, batches: true, instance: None };
        let (link, _) = calls.link_up(0, peer, Arc::default(), now);

        let body = encode_request(args.clone());
        let Ok(Message::Request(request)) = message::parse(&body) else {
            panic!("it is a request")
        };
        let (id, params_at) = (request.id, request.params_at);
        let peer = Bytes::from_static(b"\0peer");
        let context = Context::new(peer.clone(), F::SIGNATURE.name, Some(deadline));
        let entry = Entry {
            caller: Some(Caller { envelope: Envelope::new(peer.clone()), id }),
            peer,
            context: context.clone(),
            held: Held { requests: 1, bytes: body.len() },
            running: None,
            keyed: None,
            over: false,
        };
        let pool = Arc::new(Pool::start(1, MANY)?);
        Ok(Self {
            now,
            deadline,
            args: args.into_encoded(),
            calls,
            link,
            outgoing: Vec::with_capacity(1),
            reply: message::response(id, b"\xc0"),
            registry,
            admission: Admission::new(MANY, DEFAULT_MAX_MESSAGE_SIZE, DEFAULT_MAX_MESSAGE_SIZE),
            requests: Requests::new(),
            entry: Some(entry),
            invocation: Invocation { function, body, params_at, id: Some(id), context },
            runner: Runner::new(pool, Handle::current(), Outbox::default()),
            news: VecDeque::new(),
        })
    }

    /// A call in the client's table, from its making to its outcome. The table keeps the arguments,
    /// so they are copied.
    ///
    /// # Panics
    /// If there is no outcome.
    pub fn in_flight_on_client(&mut self) {
        let rules = Rules { idempotent: false, retries: 0, fail_fast: false, key: None };
        let message = self.args.clone().finish().expect("it was encoded before");
        let call = NewCall { message, want: Want::Reply, rules, deadline: self.deadline };
        let (id, _) = self.calls.submit(call, Waker::noop(), self.now).expect("there is room");
        self.calls.take(self.link, MANY, self.now, &mut self.outgoing);
        black_box(&self.outgoing).first().expect("it is sent");
        self.outgoing.clear();
        self.calls.complete(self.link, id, self.reply.clone());
        let outcome = self.calls.poll(id, Waker::noop(), &mut None);
        outcome.expect("it was answered").expect("it has succeeded");
    }

    /// Decodes the head of a request.
    #[must_use]
    pub fn decode_head(&self) -> bool {
        black_box(message::parse(black_box(&self.invocation.body))).is_ok()
    }

    /// Looks the function up.
    #[must_use]
    pub fn look_up(&self) -> bool {
        self.registry.find(black_box(self.invocation.context.function())).is_some()
    }

    /// Admits a request, and takes note of its end.
    pub fn admit(&self) {
        drop(black_box(self.permit()));
    }

    fn permit(&self) -> Permit {
        let bytes = black_box(self.invocation.body.len());
        self.admission.admit(Held::default(), bytes, self.now).expect("there is room")
    }

    /// A request in the server's table, until it is removed.
    ///
    /// # Panics
    /// If it is not there.
    pub fn in_flight_on_server(&mut self) {
        let entry = self.entry.take().expect("the last removal has left it");
        let ticket = self.requests.insert(entry);
        self.entry = self.requests.remove(black_box(ticket));
    }

    /// Has a worker run a function that does nothing, and waits for its outcome as a server does.
    /// It is admitted first: the worker ends the permit.
    ///
    /// # Panics
    /// If there is no worker, or no outcome.
    pub async fn dispatch(&mut self) {
        let Invocation { function, body, params_at, id, context } = &self.invocation;
        let invocation = Invocation {
            function: Arc::clone(function),
            body: body.clone(),
            params_at: *params_at,
            id: *id,
            context: context.clone(),
        };
        let work = Admitted { invocation, ticket: Ticket(0), permit: self.permit() };
        self.runner.run_sync(nothing, work).expect("there is room");
        self.runner.begin();
        self.runner.outbox().recv(&mut self.news).await;
        let Some(News::Outcome(outcome)) = self.news.pop_front() else {
            panic!("there is one outcome")
        };
        outcome.result.expect("it does nothing that could fail");
    }

    /// Encodes a reply.
    ///
    /// # Panics
    /// If `result` cannot be encoded.
    #[must_use]
    pub fn encode_reply(&self, result: &Bytes) -> Bytes {
        let reply = self.invocation.respond(|writer| Value::<Bytes>::NEW.encode(result, writer));
        reply.expect("it has less than 4 GiB")
    }
}

#[allow(clippy::unnecessary_wraps)] // Handlers have one signature, whether they can fail or not.
fn nothing(_: &Invocation) -> HandlerResult {
    Ok(Bytes::new())
}
