//! The tasks of one link. They send what is queued, hand replies to their calls, and detect a
//! server that does not respond any more.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use foldhash::HashMap;
use tokio::{sync::oneshot, task::JoinSet, time};

use crate::{
    client::{
        balancer::LinkId,
        calls::Transmit,
        core::{
            ClientCore,
            received::Received,
            silence::{Silence, Verdict},
        },
        endpoints::EndpointState,
    },
    error::{ErrorKind, Ran, RpcError},
    protocol::{
        MsgId, batch,
        control::{Capabilities, PeerInfo},
        response::{self, ServerMessage},
    },
    transport::{CarrierEvent, Link, LinkEvent, LinkReceiver, LinkSender, Posting, TransportError},
    util::{io_thread::LINGER, wakers::Wakers, yield_budget::YieldBudget},
};

/// The number of messages that are taken for sending each time the lock is taken: as many small
/// ones as fit into a batch.
const MESSAGES_PER_LOCK: usize = 64;
/// The number of replies that are received before callers are woken, unless the [`YieldBudget`] is
/// spent earlier.
const MAX_REPLIES: usize = 256;
/// The number of checks of a link within the keepalive timeout. Each check that finds the server
/// silent sends a ping, except the last one, which ends the link.
const CHECKS: u32 = 4;

/// The state that is shared by the tasks of a link.
struct Connection {
    core: Arc<ClientCore>,
    id: LinkId,
    capabilities: Capabilities,
    /// The number of bodies that were received.
    received: AtomicU64,
    /// True while there may be messages that were taken from the queue, and that the socket has not
    /// accepted yet.
    sending: AtomicBool,
    /// The calls that were sent to a carrier that stores messages, and whose fate is not known yet,
    /// by their tags. The transport bounds their number.
    unsettled: Mutex<HashMap<u64, Vec<MsgId>>>,
}

impl Connection {
    fn unsettled(&self) -> MutexGuard<'_, HashMap<u64, Vec<MsgId>>> {
        // No code panics while it holds this lock.
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle_carrier(&self, event: CarrierEvent) {
        let now = Instant::now();
        self.core.with_calls(|calls, wakers| match event {
            CarrierEvent::Settled { tag, fate } => {
                let sent = self.unsettled().remove(&tag).unwrap_or_default();
                calls.handle_fate(self.id, &sent, &fate, now, wakers);
            }
            CarrierEvent::Blocked(reason) => calls.handle_blocked(self.id, reason, now, wakers),
        });
    }
}

/// A guard that removes the link from the balancer when the task of the link ends, even by a panic
/// or with its runtime. Otherwise, the link would be given calls forever.
struct LinkGuard {
    connection: Arc<Connection>,
    /// The reason why the link ended.
    cause: TransportError,
}

impl Drop for LinkGuard {
    fn drop(&mut self) {
        let Self { connection, cause } = self;
        connection.core.link_down(connection.id, &cause.to_string());
    }
}

/// Serves a link until it ends. `drains` is sent to, or dropped, when the link takes no more calls.
pub(super) async fn serve(
    core: Arc<ClientCore>,
    endpoint: Arc<EndpointState>,
    peer: PeerInfo,
    Link { sender, receiver, .. }: Link,
    drains: oneshot::Sender<()>,
) {
    let capabilities = peer.capabilities;
    let id = core.link_up(&endpoint, peer);
    tracing::info!(endpoint = &*endpoint.name, "connected");
    let connection = Arc::new(Connection {
        core,
        id,
        capabilities,
        received: AtomicU64::new(0),
        sending: AtomicBool::new(false),
        unsettled: Mutex::default(),
    });
    let mut guard =
        LinkGuard { connection: Arc::clone(&connection), cause: "its task ended".into() };
    // Receiving and sending are tasks of their own. The link is then read even while its sender
    // waits because a queue is full, and an event that wakes one task does not poll the others.
    let mut tasks = JoinSet::new();
    tasks.spawn(receive(Arc::clone(&connection), receiver));
    tasks.spawn(send(Arc::clone(&connection), sender, drains));
    guard.cause = tokio::select! {
        ended = tasks.join_next() => match ended {
            Some(Ok(cause)) => cause,
            _ => "one of its tasks ended".into(),
        },
        cause = keep_alive(&connection) => cause,
        () = flushed(&connection) => "the client was closed".into(),
    };
    // Both tasks must have ended before the guard decides what happens to the calls of the link.
    tasks.shutdown().await;
    let (endpoint, cause) = (&*endpoint.name, &guard.cause);
    if connection.core.is_draining(id) {
        tracing::info!(endpoint, %cause, "the server has left");
    } else if !connection.core.is_closing() {
        tracing::warn!(endpoint, %cause, "disconnected");
    }
}

/// Sends what is queued. Returns the reason when the link is lost, or when its server is draining
/// and has answered every call.
async fn send(
    connection: Arc<Connection>,
    mut sender: Box<dyn LinkSender>,
    drains: oneshot::Sender<()>,
) -> TransportError {
    let is_stored = connection.capabilities.contains(Capabilities::STORED);
    let (mut drains, mut tag) = (Some(drains), 0);
    let mut out = Vec::new();
    let mut budget = YieldBudget::default();
    loop {
        let next = poll_fn(|cx| {
            // This is set before messages are taken from the queue. A task that first checks the
            // queue, and then this flag, therefore misses no message.
            connection.sending.store(true, Ordering::Relaxed);
            let (core, id) = (&connection.core, connection.id);
            let progress = core.poll_transmit(id, MESSAGES_PER_LOCK, cx.waker(), &mut out);
            if progress.draining
                && let Some(drains) = drains.take()
            {
                // An error means that the client closes.
                let _ = drains.send(());
            }
            if !out.is_empty() {
                return Poll::Ready(true);
            }
            connection.sending.store(false, Ordering::Relaxed);
            if progress.draining && !progress.awaits_replies {
                return Poll::Ready(false);
            }
            // The engine writes while this task waits.
            Poll::Pending
        });
        if !next.await {
            return "the server drained".into();
        }
        for Transmit { body, mut calls, deadline } in out.drain(..) {
            if budget.is_spent() {
                budget.yield_now().await;
            }
            budget.add(1, body.len());
            if is_stored {
                tag += 1;
                connection.unsettled().insert(tag, std::mem::take(&mut calls));
                sender.label(Posting { tag, deadline });
            }
            if let Err(cause) = sender.send(body).await {
                return cause;
            }
            if !calls.is_empty() {
                let done = calls.into_iter().map(|id| Received::reply(id, Bytes::new()));
                connection.core.handle_replies(connection.id, done, &mut Wakers::default());
            }
        }
        // Sending does not wait for the engine. Yielding lets the engine write what it has before
        // more messages are prepared.
        if connection.core.has_outgoing(connection.id) {
            budget.yield_now().await;
        }
    }
}

/// Hands replies to their calls until the link ends, and returns the reason.
async fn receive(
    connection: Arc<Connection>,
    mut receiver: Box<dyn LinkReceiver>,
) -> TransportError {
    let (mut replies, mut wakers) = (Vec::new(), Wakers::default());
    let mut budget = YieldBudget::default();
    loop {
        let next = poll_fn(|cx| {
            let polled = receiver.poll_recv(cx);
            // Replies are handed over only when no more bodies are ready, so that many replies take
            // the lock only once.
            if !matches!(polled, Poll::Ready(Ok(_))) {
                connection.core.handle_replies(connection.id, replies.drain(..), &mut wakers);
            }
            polled
        });
        match next.await {
            Ok(LinkEvent::Body(body)) => {
                budget.add(1, body.len());
                handle_body(&connection, body, &mut replies);
            }
            Ok(LinkEvent::Carrier(event)) => {
                connection.handle_carrier(*event);
                budget.add(1, 0);
            }
            Err(cause) => return cause,
        }
        if replies.len() >= MAX_REPLIES || budget.is_spent() {
            connection.core.handle_replies(connection.id, replies.drain(..), &mut wakers);
            // Lets other links, and callers on this thread, run.
            budget.yield_now().await;
        }
    }
}

/// Handles a body that was received. Replies that end their calls are added to `replies`.
fn handle_body(connection: &Connection, body: Bytes, replies: &mut Vec<Received>) {
    // Any body proves that the server responds.
    connection.received.fetch_add(1, Ordering::Relaxed);
    match batch::unpack(&body) {
        // `flatten` skips malformed messages, which cannot be the reply to a call.
        Some(messages) => {
            for message in messages.flatten() {
                handle_message(connection, message, replies);
            }
        }
        None => handle_message(connection, body, replies),
    }
}

fn handle_message(connection: &Connection, body: Bytes, replies: &mut Vec<Received>) {
    let Connection { core, id: link, .. } = connection;
    match response::classify(&body) {
        ServerMessage::Response { id, failed } => {
            match refusal(failed, &body, core.transport.max_message_size) {
                Some(error) => {
                    // The items of its call that came before it are among them.
                    core.handle_replies(*link, replies.drain(..), &mut Wakers::default());
                    core.handle_refusal(*link, id, error);
                }
                None => replies.push(Received::reply(id, body)),
            }
        }
        ServerMessage::Items(head) => replies.extend(Received::items(head, body)),
        ServerMessage::Credit { id, bytes } => core.handle_credit(*link, id, bytes),
        ServerMessage::GoAway => core.handle_go_away(*link),
        ServerMessage::Window(window) => core.handle_window(*link, window),
        // The message may be one of a later protocol version.
        ServerMessage::Other => {}
    }
}

/// Returns the error for a response that must not end its call unchanged. Such a response exceeds
/// the client's `limit` in bytes, or reports an error that may allow a retry.
fn refusal(failed: bool, body: &Bytes, limit: usize) -> Option<RpcError> {
    let size = body.len();
    if size > limit {
        let message =
            format!("the reply has {size} bytes, and the client's max_message_size is {limit}");
        let kind = ErrorKind::TooLarge { size, limit };
        // The response came, so it tells whether the function ran.
        let ran = match response::parse_response(body) {
            Some(Ok(_)) => Ran::Yes,
            Some(Err(error)) => error.ran(),
            None => Ran::Maybe,
        };
        return Some(RpcError::new(kind, ran, message));
    }
    if !failed {
        return None;
    }
    let Some(Err(error)) = response::parse_response(body) else { return None };
    let may_retry = [ErrorKind::Overloaded, ErrorKind::ShuttingDown, ErrorKind::Disconnected]
        .contains(&error.kind());
    may_retry.then_some(error)
}

/// Pings a server that owes replies and sends nothing. Returns when the server has sent nothing for
/// the keepalive timeout. Never returns if the peer does not support pings.
async fn keep_alive(connection: &Connection) -> TransportError {
    let Connection { core, id, .. } = connection;
    if !connection.capabilities.contains(Capabilities::PING) {
        return std::future::pending().await;
    }
    let timeout = core.keepalive_timeout;
    let interval = timeout / CHECKS;
    let mut silence = Silence::new(timeout);
    loop {
        let due = Instant::now() + interval;
        time::sleep_until(due.into()).await;
        let received = connection.received.load(Ordering::Relaxed);
        // If this thread did not run for a while, there may be messages that it has not read.
        let is_late = due.elapsed() > interval;
        match silence.check(received, core.awaits_replies(*id), is_late, Instant::now()) {
            Verdict::Responsive => {}
            Verdict::Silent => core.ping(*id),
            Verdict::Lost(silent) => {
                return format!("the server has sent nothing for {silent:.1?}").into();
            }
        }
    }
}

/// Waits until the client closes, and until what was queued has been sent. If the server supports
/// pings, the server has then also read what was sent.
async fn flushed(connection: &Connection) {
    const POLL_INTERVAL: Duration = Duration::from_millis(1);
    let Connection { core, id, .. } = connection;
    core.closing().await;
    if connection.capabilities.contains(Capabilities::PING) {
        return core.flush(*id).await;
    }
    // A plain MessagePack-RPC peer does not answer pings. All that can be known is that the socket
    // has accepted every message, and that a carrier which stores messages has confirmed them.
    let give_up = Instant::now() + LINGER;
    let is_busy = || {
        core.has_outgoing(*id)
            || connection.sending.load(Ordering::Relaxed)
            || !connection.unsettled().is_empty()
    };
    while is_busy() && Instant::now() < give_up {
        time::sleep(POLL_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::{balancer::tests::peer, config::ClientConfig},
        endpoint::Endpoint,
        transport::{Workload, open},
    };

    #[tokio::test]
    async fn link_is_down_after_its_task_is_aborted() {
        let config = ClientConfig::default();
        let address = Endpoint::Inproc("a test of links".to_owned());
        let _listeners =
            open::listen(vec![address.clone()], &config.transport(), 0o600, Workload::default())
                .await
                .map_err(|(_, cause)| cause)
                .unwrap();
        let by = Instant::now() + Duration::from_secs(60);
        let link = open::connect(&address, &config.transport(), by).await.unwrap();
        let endpoint = EndpointState::new("here".into(), address);
        let core = ClientCore::new(&config, &[Arc::clone(&endpoint)], []);
        let (drains, _draining) = oneshot::channel();
        let serving = serve(Arc::clone(&core), Arc::clone(&endpoint), peer("one"), link, drains);
        let task = tokio::spawn(serving);
        core.connected().await.unwrap();
        assert_eq!(endpoint.failure(), None);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(endpoint.failure().as_deref(), Some("its task ended"));
    }
}
