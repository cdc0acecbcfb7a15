//! One connection: what its callers and its tasks share, and the tasks that keep it up. The tasks own the
//! socket; callers only put messages into the queue and take outcomes out of the table.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, watch},
    task::{JoinSet, coop},
    time,
};

use crate::{
    args::EncodedArgs,
    client::in_flight::{self, InFlight, Outcome, Outgoing, Want},
    codec,
    endpoint::Endpoint,
    error::{ErrorKind, Ran, RpcError},
    io_thread::LINGER,
    message::{self, Head, Incoming, MsgId, PROTOCOL_VERSION},
    transport::{self, LinkReceiver, LinkSender, TransportError},
};

/// How many messages are sent between two looks at the queue: enough to make the lock's cost small.
const BATCH: usize = 256;
/// The first pause between two attempts to connect; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A link that ends sooner than this does not count as a success.
const STABLE: Duration = Duration::from_secs(1);
/// How long the first attempt to connect may take; it doubles up to the longest.
const FIRST_ATTEMPT: Duration = Duration::from_secs(1);
const LONGEST_ATTEMPT: Duration = Duration::from_secs(8);
/// How often deadlines are looked at, at most. Calls may end this much late.
const DEADLINE_TICK: Duration = Duration::from_millis(1);

/// What is shared by a client, its calls and the connection's tasks.
#[derive(Debug)]
pub(crate) struct Connection {
    endpoint: Arc<str>,
    max_message_size: usize,
    state: Mutex<State>,
    /// There may be something to send, or the phase has changed.
    outgoing: Notify,
    /// The earliest deadline is earlier than it was.
    deadline: Notify,
    status: watch::Sender<Status>,
    /// What came of the first connection, which stays: or why there will be none.
    first: watch::Sender<Option<Result<(), Arc<str>>>>,
    /// Set when nothing more may be awaited from the connection.
    closed: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    in_flight: InFlight,
    /// New calls are refused.
    closing: bool,
    /// The server is going: new calls wait for the next connection.
    leaving: bool,
}

/// Whether there is a connection.
#[derive(Debug, Clone)]
pub(crate) enum Status {
    Connecting {
        /// Why the last attempt failed, if one has.
        failure: Option<Arc<str>>,
    },
    Up(Peer),
    /// The connection's task has gone.
    Ended,
}

/// What `rpc.hello` has told of the peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// It knows this protocol; otherwise it is plain MessagePack-RPC, without options, ping and cancel.
    pub(crate) extended: bool,
    /// The longest message that both sides take, in bytes.
    max_message_size: usize,
}

/// What the client says in `rpc.hello`.
#[derive(Serialize)]
struct Hello {
    protocol: u32,
    max_message_size: usize,
}

/// What the client wants to know of the server's answer.
#[derive(Deserialize)]
struct HelloReply {
    max_message_size: usize,
}

/// Why a link is no longer used.
enum LinkEnd {
    Lost(TransportError),
    /// The server said goodbye, and has answered everything.
    Left,
    Closed,
}

impl Connection {
    pub(crate) fn new(endpoint: Arc<str>, max_in_flight: usize, max_message_size: usize) -> Arc<Self> {
        let state = State { in_flight: InFlight::new(max_in_flight), closing: false, leaving: false };
        Arc::new(Self {
            endpoint,
            max_message_size,
            state: Mutex::new(state),
            outgoing: Notify::new(),
            deadline: Notify::new(),
            status: watch::Sender::new(Status::Connecting { failure: None }),
            first: watch::Sender::new(None),
            closed: watch::Sender::new(false),
        })
    }

    pub(crate) fn endpoint(&self) -> &Arc<str> {
        &self.endpoint
    }

    /// Waits until there has been a connection, or will be none, and tells why.
    pub(crate) async fn first(&self) -> Result<(), Arc<str>> {
        let mut first = self.first.subscribe();
        // An error would mean that the sender has gone, and `self` holds it.
        let settled = first.wait_for(Option::is_some).await;
        settled.ok().and_then(|first| first.clone()).unwrap_or(Ok(()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; if something did, the table is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a call. Its id is to be given to [`poll`](Self::poll) until that has an outcome, or to
    /// [`cancel`](Self::cancel).
    pub(crate) fn submit(
        &self,
        args: EncodedArgs,
        want: Want,
        deadline: Instant,
        waker: &Waker,
    ) -> Result<MsgId, RpcError> {
        if let Some(error) = args.error() {
            let message = "the arguments cannot be encoded";
            return Err(RpcError::new(ErrorKind::BadArguments, Ran::No, message).with_source(error.clone()));
        }
        if args.message_len() > self.max_message_size {
            return Err(request_too_large(args.message_len(), "client", self.max_message_size));
        }
        let mut state = self.lock();
        if state.closing {
            return Err(RpcError::new(ErrorKind::ShuttingDown, Ran::No, "this client was closed"));
        }
        let submitted = state.in_flight.submit(args, want, deadline, waker)?;
        drop(state);
        self.outgoing.notify_one();
        if submitted.earliest {
            self.deadline.notify_one();
        }
        Ok(submitted.id)
    }

    pub(crate) fn poll(&self, id: MsgId, waker: &Waker) -> Poll<Outcome> {
        let mut waker = waker.clone();
        let outcome = self.lock().in_flight.poll(id, &mut waker);
        outcome.map_or(Poll::Pending, |outcome| Poll::Ready(outcome.map_err(|error| self.explain(error))))
    }

    /// Adds why there is no connection to the error of a call that waited for one.
    fn explain(&self, error: RpcError) -> RpcError {
        match &*self.status.borrow() {
            Status::Connecting { failure: Some(failure) }
                if error.kind() == ErrorKind::DeadlineExceeded && error.ran() == Ran::No =>
            {
                error.with_source(&**failure)
            }
            _ => error,
        }
    }

    pub(crate) fn cancel(&self, id: MsgId) {
        let mut waker = Waker::noop().clone();
        let tell = self.lock().in_flight.cancel(id, &mut waker);
        if tell {
            self.outgoing.notify_one();
        }
    }

    /// Ends the calls whose time was up at `overdue`, and tells when the next one's will be.
    pub(crate) fn next_deadline_after(&self, overdue: Option<Instant>) -> Option<Instant> {
        let mut state = self.lock();
        let wakers = overdue.map(|overdue| state.in_flight.expire(overdue)).unwrap_or_default();
        let next = state.in_flight.next_deadline();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        next
    }

    /// Ends the connection once what is queued has been sent. Calls that wait then end as disconnected.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.closed.send_replace(true);
        // After the flag, which the sending task looks at when it wakes.
        self.outgoing.notify_one();
    }

    /// Refuses new calls, and waits until the server has read everything that was sent, or `deadline`.
    pub(crate) async fn flush(&self, deadline: Instant) {
        let submitted = {
            let mut state = self.lock();
            state.closing = true;
            // A plain peer knows no ping: what the socket has taken is all that can be known.
            if !matches!(&*self.status.borrow(), Status::Up(peer) if peer.extended) {
                return;
            }
            let ping = EncodedArgs::dynamic("rpc.ping".to_owned(), &());
            match state.in_flight.submit(ping, Want::Reply, deadline, Waker::noop()) {
                Ok(submitted) => submitted,
                Err(_) => return,
            }
        };
        self.outgoing.notify_one();
        self.deadline.notify_one();
        // The outcome does not matter: either way there is nothing more to wait for.
        let _ = poll_fn(|cx| self.poll(submitted.id, cx.waker())).await;
    }

    /// Waits until the connection's task has ended, which it does within [`LINGER`] of [`close`](Self::close).
    pub(crate) async fn ended(&self) {
        // An error would mean that the sender has gone, and `self` holds it.
        let _ = self.status.subscribe().wait_for(|status| matches!(status, Status::Ended)).await;
    }

    /// Notes what came of the first connection, if that is not known yet.
    fn settle(&self, outcome: Result<(), Arc<str>>) {
        self.first.send_if_modified(|first| {
            let news = first.is_none();
            if news {
                *first = Some(outcome);
            }
            news
        });
    }

    fn complete(&self, id: MsgId, outcome: Outcome) {
        let mut state = self.lock();
        let waker = state.in_flight.complete(id, outcome);
        let left = state.leaving && state.in_flight.sent() == 0;
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        if left {
            self.outgoing.notify_one();
        }
    }

    fn fail_sent(&self, cause: &TransportError) {
        let cause = cause.to_string();
        let lost = |ran| {
            RpcError::new(ErrorKind::Disconnected, ran, "the connection was lost").with_source(cause.clone())
        };
        let wakers = self.lock().in_flight.fail_sent(lost);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn fail_all(&self, message: &str) {
        let mut state = self.lock();
        state.closing = true;
        let wakers =
            state.in_flight.fail_all(|ran| RpcError::new(ErrorKind::Disconnected, ran, message.to_owned()));
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

fn request_too_large(size: usize, whose: &str, limit: usize) -> RpcError {
    let message = format!("the request has {size} bytes, and the {whose}'s max_message_size is {limit}");
    RpcError::new(ErrorKind::TooLarge, Ran::No, message)
}

/// Held by a connection's task, and dropped with it, also if its runtime ends before it has run at all: nobody
/// waits for a connection whose task has gone.
pub(crate) struct EndCalls(pub(crate) Arc<Connection>);

impl Drop for EndCalls {
    fn drop(&mut self) {
        let Self(connection) = self;
        connection.fail_all("the client was closed, or its runtime ended");
        connection.settle(Err("its runtime has ended".into()));
        connection.status.send_replace(Status::Ended);
    }
}

/// Keeps the connection up until it is closed, or nothing answered by `connect_by`.
pub(crate) async fn run(end_calls: EndCalls, endpoint: Endpoint, mut connect_by: Option<Instant>) {
    let connection = &end_calls.0;
    let mut tasks = JoinSet::new();
    tasks.spawn(end_overdue_calls(Arc::clone(connection)));
    let mut closed = connection.closed.subscribe();
    let mut pause = Duration::ZERO;
    loop {
        let connecting = async {
            time::sleep(pause).await;
            connect(connection, &endpoint, connect_by).await
        };
        let (sender, receiver, peer) = tokio::select! {
            connected = connecting => match connected {
                Ok(link) => link,
                Err(cause) => return connection.settle(Err(cause.to_string().into())),
            },
            // An error would mean that the sender has gone, and `connection` holds it.
            _ = closed.wait_for(|closed| *closed) => return,
        };
        let since = Instant::now();
        connect_by = None;
        connection.lock().leaving = false;
        connection.status.send_replace(Status::Up(peer));
        connection.settle(Ok(()));
        let cause = match serve_link(connection, sender, receiver, peer).await {
            LinkEnd::Lost(cause) => cause,
            LinkEnd::Left => "the server left".into(),
            LinkEnd::Closed => return,
        };
        tracing::debug!(endpoint = &*connection.endpoint, %cause, "connection ended, will reconnect");
        connection.fail_sent(&cause);
        connection.status.send_replace(Status::Connecting { failure: None });
        // A server that takes connections and drops them again is not asked without a break.
        pause = if since.elapsed() < STABLE {
            (2 * pause).clamp(FIRST_PAUSE, LONGEST_PAUSE)
        } else {
            Duration::ZERO
        };
    }
}

/// Tries until there is a link and its peer has answered, or `by` has passed.
async fn connect(
    connection: &Connection,
    endpoint: &Endpoint,
    by: Option<Instant>,
) -> Result<(LinkSender, LinkReceiver, Peer), TransportError> {
    let (mut pause, mut longest) = (FIRST_PAUSE, FIRST_ATTEMPT);
    loop {
        let left = by.map(|by| by.saturating_duration_since(Instant::now()));
        let attempt = left.map_or(longest, |left| left.min(longest));
        let cause = match attempt_link(connection, endpoint, Instant::now() + attempt).await {
            Ok(link) => return Ok(link),
            Err(cause) => cause,
        };
        tracing::debug!(endpoint = &*connection.endpoint, %cause, "cannot connect");
        let failure = Some(cause.to_string().into());
        connection.status.send_replace(Status::Connecting { failure });
        if by.is_some_and(|by| by <= Instant::now() + pause) {
            return Err(cause);
        }
        time::sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
        longest = (2 * longest).min(LONGEST_ATTEMPT);
    }
}

async fn attempt_link(
    connection: &Connection,
    endpoint: &Endpoint,
    by: Instant,
) -> Result<(LinkSender, LinkReceiver, Peer), TransportError> {
    let (mut sender, mut receiver) = transport::connect(endpoint, by).await?;
    match time::timeout_at(by.into(), hello(connection, &mut sender, &mut receiver)).await {
        Ok(peer) => Ok((sender, receiver, peer?)),
        Err(_) => Err("it did not answer in time".into()),
    }
}

/// Learns who is there. Nothing else is under way on the link yet.
async fn hello(
    connection: &Connection,
    sender: &mut LinkSender,
    receiver: &mut LinkReceiver,
) -> Result<Peer, TransportError> {
    let id = connection.lock().in_flight.skip_id();
    let max_message_size = connection.max_message_size;
    let hello = Hello { protocol: PROTOCOL_VERSION, max_message_size };
    let args = EncodedArgs::dynamic("rpc.hello".to_owned(), &(hello,));
    sender.send(args.into_message(Head::Request { id, timeout_ms: None })).await?;
    let body = loop {
        let body = receiver.recv().await?;
        if message::classify(&body) == Incoming::Response(id) {
            break body;
        }
    };
    let reply = match message::parse_response(&body) {
        Some(Ok(range)) => codec::from_slice::<HelloReply>(&body[range]).ok(),
        _ => None,
    };
    Ok(match reply {
        Some(reply) => {
            Peer { extended: true, max_message_size: reply.max_message_size.min(max_message_size) }
        }
        None => Peer { extended: false, max_message_size },
    })
}

/// Sends and receives until the link ends.
async fn serve_link(
    connection: &Arc<Connection>,
    mut sender: LinkSender,
    receiver: LinkReceiver,
    peer: Peer,
) -> LinkEnd {
    // A task of its own, because a link is read even while its sender waits for room.
    let mut reader = JoinSet::new();
    reader.spawn(receive(Arc::clone(connection), receiver));
    let mut closed = connection.closed.subscribe();
    let lingering = async {
        // Whatever is still queued when the client is closed gets this long to be sent.
        let _ = closed.wait_for(|closed| *closed).await;
        time::sleep(LINGER).await;
    };
    tokio::select! {
        Some(ended) = reader.join_next() => {
            LinkEnd::Lost(ended.unwrap_or_else(|_| "its reading task ended".into()))
        }
        end = send(connection, &mut sender, peer) => end,
        () = lingering => LinkEnd::Closed,
    }
}

/// Sends what is queued, as long as the link lasts.
async fn send(connection: &Connection, link: &mut LinkSender, peer: Peer) -> LinkEnd {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let now = Instant::now();
        {
            let mut state = connection.lock();
            if state.leaving {
                state.in_flight.take_cancels(BATCH, &mut batch);
            } else {
                state.in_flight.take(BATCH, now, &mut batch);
            }
            if state.leaving && batch.is_empty() && state.in_flight.sent() == 0 {
                return LinkEnd::Left;
            }
            let flushed = batch.is_empty() && !state.in_flight.has_outgoing();
            if flushed && *connection.closed.borrow() {
                return LinkEnd::Closed;
            }
        }
        if batch.is_empty() {
            connection.outgoing.notified().await;
        }
        for outgoing in batch.drain(..) {
            if let Err(cause) = send_one(connection, link, peer, outgoing, now).await {
                return LinkEnd::Lost(cause);
            }
            // The engine's own task has to run on this thread too, and sending never waits for it.
            coop::consume_budget().await;
        }
    }
}

async fn send_one(
    connection: &Connection,
    link: &mut LinkSender,
    peer: Peer,
    outgoing: Outgoing,
    now: Instant,
) -> Result<(), TransportError> {
    match outgoing {
        Outgoing::Cancel(id) if peer.extended => link.send(in_flight::cancel_message(id)).await,
        Outgoing::Cancel(_) => Ok(()),
        Outgoing::Message { id, args, .. } if args.message_len() > peer.max_message_size => {
            let error = request_too_large(args.message_len(), "server", peer.max_message_size);
            connection.complete(id, Err(error));
            Ok(())
        }
        Outgoing::Message { id, want, args, deadline } => {
            let head = in_flight::head(id, want, deadline, now, peer.extended);
            link.send(args.into_message(head)).await?;
            if want == Want::Nothing {
                connection.complete(id, Ok(Bytes::new()));
            }
            Ok(())
        }
    }
}

/// Hands replies to their calls until the link ends, and tells why it did.
async fn receive(connection: Arc<Connection>, mut link: LinkReceiver) -> TransportError {
    loop {
        let body = match link.recv().await {
            Ok(body) => body,
            Err(cause) => return cause,
        };
        match message::classify(&body) {
            Incoming::Response(id) => connection.complete(id, check_size(&connection, body)),
            Incoming::Goodbye => {
                connection.lock().leaving = true;
                connection.outgoing.notify_one();
            }
            // A reply that nobody waits for any more, or something of a later version.
            Incoming::Other => {}
        }
        // Other connections have to run on this thread too.
        coop::consume_budget().await;
    }
}

fn check_size(connection: &Connection, body: Bytes) -> Outcome {
    let (size, limit) = (body.len(), connection.max_message_size);
    if size <= limit {
        return Ok(body);
    }
    let message = format!("the reply has {size} bytes, and the client's max_message_size is {limit}");
    // It may be an error that says that the function did not run.
    Err(RpcError::new(ErrorKind::TooLarge, Ran::Maybe, message))
}

/// Ends calls whose deadline has passed, whatever state the link is in.
async fn end_overdue_calls(connection: Arc<Connection>) {
    loop {
        let next = connection.lock().in_flight.next_deadline();
        let Some(next) = next else {
            connection.deadline.notified().await;
            continue;
        };
        let tick = Instant::now() + DEADLINE_TICK;
        tokio::select! {
            () = time::sleep_until(next.max(tick).into()) => {
                let wakers = connection.lock().in_flight.expire(Instant::now());
                wakers.into_iter().for_each(Waker::wake);
                // There are cancels to be sent, and a server that leaves need not answer them.
                connection.outgoing.notify_one();
            }
            () = connection.deadline.notified() => {}
        }
    }
}
