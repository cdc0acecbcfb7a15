//! The stages of a call for the benchmarks, one at a time. Each stage runs the code that a call
//! runs. Nothing here does I/O. Not public API.

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
    args::Args,
    client::{
        Balancing,
        balancer::LinkId,
        calls::{
            CallKind, Calls, NewCall, Transmit,
            capacity::{Capacity, WhenFull},
            retry::CallPolicy,
        },
        endpoints::EndpointState,
    },
    context::Context,
    endpoint::Endpoint,
    function::{RemoteFn, Signature},
    handler::{HandlerResult, Invocation},
    peer::PeerId,
    protocol::{
        DEFAULT_MAX_MESSAGE_SIZE, MsgId,
        control::{Capabilities, PeerInfo, Window},
        outgoing::EncodedArgs,
        request::{self, ClientMessage, Head},
        response,
    },
    server::{
        admission::{Admission, Permit},
        completion::{Completion, CompletionQueue, Ticket},
        executor::{Execute, Executor},
        invoke::AdmittedCall,
        registry::{Registry, States},
        requests::{ActiveRequest, Caller, Owner, Requests},
        workers::{PoolSize, Workers},
    },
    transport::ReplyTo,
    usage::Usage,
    util::wakers::Wakers,
    value::Value,
};

const HEAD: Head<'_> = Head::Request { id: MsgId(7), timeout_ms: Some(30_000), options: None };
/// The time of each call, which is longer than any benchmark.
const TIME: Duration = Duration::from_secs(3_600);
/// A limit for calls in flight that the benchmarks never reach.
const MANY: usize = 1_000;

/// Makes a request of encoded arguments: writes the head in front of them.
#[must_use]
pub fn encode_request<F: RemoteFn>(args: Args<F>) -> Bytes {
    args.into_encoded().into_message(HEAD)
}

/// The state of both sides that the stages of a call of one function need. Each stage can be run
/// any number of times.
pub struct Stages {
    now: Instant,
    deadline: Instant,
    args: EncodedArgs,
    signature: &'static Signature,
    calls: Calls,
    link: LinkId,
    out: Vec<Transmit>,
    reply: Bytes,
    registry: Registry,
    admission: Admission,
    requests: Requests,
    request: Option<ActiveRequest>,
    invocation: Invocation,
    executor: Executor,
    completions: VecDeque<Completion>,
}

impl Stages {
    /// Prepares calls of `F` with `args`, and starts one worker. This program must implement `F`.
    ///
    /// # Errors
    /// Fails if the worker cannot be started.
    ///
    /// # Panics
    /// If this program does not implement `F`, or outside of a tokio runtime.
    pub fn new<F: RemoteFn>(args: Args<F>) -> io::Result<Self> {
        let now = Instant::now();
        let deadline = now + TIME;
        let registry =
            Registry::new(Registry::linked(), &States::new()).expect("no function wants a state");
        let function =
            Arc::clone(registry.find(F::SIGNATURE.name).expect("the function is served here"));

        let random = fastrand::Rng::with_seed(7);
        let capacity = Capacity::new(MANY, DEFAULT_MAX_MESSAGE_SIZE, WhenFull::Fail);
        let mut calls = Calls::new(capacity, Balancing::default(), random);
        let endpoint = EndpointState::new("here".into(), Endpoint::Inproc("here".to_owned()));
        let peer = PeerInfo {
            max_batch: usize::MAX,
            capabilities: Capabilities::BASE,
            max_message_size: DEFAULT_MAX_MESSAGE_SIZE,
            instance: None,
            window: Some(Window { number: 0, calls: 1_024, bytes: DEFAULT_MAX_MESSAGE_SIZE }),
        };
        calls.insert_endpoint(&endpoint);
        let link = calls.link_up(&endpoint, peer, now, &mut Wakers::default());

        let body = encode_request(args.clone());
        let Ok(ClientMessage::Request(request)) = request::parse(&body) else {
            panic!("it is a request")
        };
        let (id, params_at) = (request.id, request.params_at);
        let peer = PeerId::unverified(Bytes::from_static(b"\0peer"));
        let context = Context::new(peer.clone(), F::SIGNATURE.name, Some(deadline));
        let request = ActiveRequest {
            owner: Owner::Caller(Caller { reply_to: ReplyTo::direct(peer.clone()), id }),
            context: context.clone(),
            usage: Usage { requests: 1, bytes: body.len() },
            started: None,
            streams: None,
        };
        let workers = Arc::new(Workers::start(PoolSize { threads: 1, max_threads: 1 }, MANY)?);
        Ok(Self {
            now,
            deadline,
            args: args.into_encoded(),
            signature: F::SIGNATURE,
            calls,
            link,
            out: Vec::with_capacity(1),
            reply: response::response(id, b"\xc0"),
            registry,
            admission: Admission::new(MANY, DEFAULT_MAX_MESSAGE_SIZE, DEFAULT_MAX_MESSAGE_SIZE),
            requests: Requests::new(),
            request: Some(request),
            invocation: Invocation {
                function,
                body,
                params_at,
                id: Some(id),
                context,
                arrivals: None,
            },
            executor: Executor::new(workers, Handle::current(), CompletionQueue::default()),
            completions: VecDeque::new(),
        })
    }

    /// Runs a call through the client's table, from its submission to its outcome. It includes a
    /// copy of the arguments, because the table keeps them.
    ///
    /// # Panics
    /// If the call has no outcome.
    pub fn in_flight_on_client(&mut self) {
        let policy = CallPolicy { idempotent: false, retries: 0, fail_fast: false, extras: None };
        let message = self.args.clone().finish().expect("it was encoded before");
        let call = NewCall {
            message,
            kind: CallKind::Request,
            policy,
            deadline: self.deadline,
            signature: self.signature,
            flows: None,
        };
        let mut wakers = Wakers::default();
        let (waker, now) = (Waker::noop(), self.now);
        let id = self.calls.submit(call, waker, now, &mut wakers).expect("there is capacity");
        self.calls.poll_transmit(self.link, MANY, || now, waker, &mut self.out, &mut wakers);
        black_box(&self.out).first().expect("it is sent");
        self.out.clear();
        self.calls.handle_reply(self.link, id, self.reply.clone(), &mut wakers);
        wakers.wake();
        let outcome = self.calls.poll_outcome(id, waker, &mut None);
        outcome.expect("it was answered").expect("it has succeeded");
    }

    /// Decodes the head of a request.
    #[must_use]
    pub fn decode_head(&self) -> bool {
        black_box(request::parse(black_box(&self.invocation.body))).is_ok()
    }

    /// Looks up the function by its name.
    #[must_use]
    pub fn look_up(&self) -> bool {
        self.registry.find(black_box(self.invocation.context.function())).is_some()
    }

    /// Admits a request, and drops its permit.
    pub fn admit(&self) {
        drop(black_box(self.permit()));
    }

    fn permit(&self) -> Permit {
        let bytes = black_box(self.invocation.body.len());
        self.admission.admit(Usage::default(), bytes).expect("there is capacity")
    }

    /// Inserts a request into the server's table, and removes it.
    ///
    /// # Panics
    /// If the request is not in the table.
    pub fn in_flight_on_server(&mut self) {
        let request = self.request.take().expect("the last removal has left it");
        let ticket = self.requests.insert(request);
        self.request = self.requests.remove(black_box(ticket));
    }

    /// Lets a worker run a function that does nothing, and waits for its completion as a server
    /// does. The call is admitted first, and the worker drops its permit.
    ///
    /// # Panics
    /// If the call is not accepted, or has no completion.
    pub async fn dispatch(&mut self) {
        let Invocation { function, body, params_at, id, context, .. } = &self.invocation;
        let invocation = Invocation {
            function: Arc::clone(function),
            body: body.clone(),
            params_at: *params_at,
            id: *id,
            context: context.clone(),
            arrivals: None,
        };
        let call =
            AdmittedCall { invocation, ticket: Ticket(0), permit: self.permit(), facts: None };
        self.executor.run_sync(nothing, call).expect("there is capacity");
        self.executor.flush(self.now);
        self.executor.completions().recv(&mut self.completions).await;
        let Some(Completion::Ended { result, .. }) = self.completions.pop_front() else {
            panic!("there is one completion")
        };
        result.expect("it does nothing that could fail");
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

#[allow(clippy::unnecessary_wraps)] // Handlers that cannot fail have this signature too.
fn nothing(_: &Invocation) -> HandlerResult {
    Ok(Bytes::new())
}
