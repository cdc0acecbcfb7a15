//! What keeps a connection up: connects and says hello, sends, receives, and ends what is overdue.

use std::{
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{
    task::{JoinSet, coop},
    time,
};

use super::{Connection, Peer, Status, request_too_large};
use crate::{
    args::EncodedArgs,
    client::in_flight::{self, Outcome, Outgoing, Want},
    codec,
    endpoint::Endpoint,
    error::{ErrorKind, Ran, RpcError},
    io_thread::LINGER,
    message::{self, Head, Incoming, PROTOCOL_VERSION},
    transport::{self, Carrier, LinkReceiver, LinkSender, TransportError},
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

/// Held by a connection's task, and dropped with it, also if its runtime ends before it has run at all: nobody
/// waits for a connection whose task has gone.
pub(crate) struct EndCalls(pub(crate) Arc<Connection>);

impl Drop for EndCalls {
    fn drop(&mut self) {
        let Self(connection) = self;
        // First, so that whoever flushes either sees it, or has submitted its ping and is failed with the rest.
        connection.status.send_replace(Status::Ended);
        connection.fail_all("the client was closed, or its runtime ended");
        connection.settle(Err("its runtime has ended".into()));
    }
}

/// Keeps the connection up until it is closed, or nothing answered by `connect_by`.
pub(crate) async fn run(
    end_calls: EndCalls,
    endpoint: Endpoint,
    carrier: Carrier,
    mut connect_by: Option<Instant>,
) {
    let connection = &end_calls.0;
    let mut tasks = JoinSet::new();
    tasks.spawn(end_overdue_calls(Arc::clone(connection)));
    let mut closed = connection.closed.subscribe();
    let mut pause = Duration::ZERO;
    loop {
        let connecting = async {
            if !pause.is_zero() {
                time::sleep(pause).await;
            }
            connect(connection, &endpoint, carrier, connect_by).await
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
    carrier: Carrier,
    by: Option<Instant>,
) -> Result<(LinkSender, LinkReceiver, Peer), TransportError> {
    let (mut pause, mut longest) = (FIRST_PAUSE, FIRST_ATTEMPT);
    loop {
        let left = by.map(|by| by.saturating_duration_since(Instant::now()));
        let attempt = left.map_or(longest, |left| left.min(longest));
        let cause = match attempt_link(connection, endpoint, carrier, Instant::now() + attempt).await {
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
    carrier: Carrier,
    by: Instant,
) -> Result<(LinkSender, LinkReceiver, Peer), TransportError> {
    let (mut sender, mut receiver) = transport::connect(endpoint, carrier, by).await?;
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
