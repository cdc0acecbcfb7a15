//! One link, as long as it lasts: sends what is queued for it, hands replies to their calls, and
//! notices when nobody is there any more.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
    time,
};

use super::Channel;
use crate::{
    client::{
        in_flight::Outgoing,
        links::{LinkId, Peer},
    },
    error::{ErrorKind, Ran, RpcError},
    io_thread::{LINGER, Turn},
    message::{self, Incoming, MsgId, batch},
    transport::{LinkReceiver, LinkSender, TransportError},
};

/// How many messages are taken to be sent while the lock is held: about as many small ones as fit
/// into a batch.
const TAKEN: usize = 64;
/// How many replies are taken in before callers are woken, if a [`Turn`] is not over before.
const RECEIVED: usize = 256;
/// How often a link is looked at within the longest silence. All but the last look that finds it
/// silent send a ping.
const LOOKS: u32 = 4;

struct Link {
    channel: Arc<Channel>,
    id: LinkId,
    /// The peer knows pings and cancels.
    extended: bool,
    /// There may be something to send, or the server leaves.
    wake: Arc<Notify>,
    /// How many messages have come.
    received: AtomicU64,
    /// What was taken to be sent may not all be with the socket yet.
    sending: AtomicBool,
}

/// A link that is in the table. Dropped with its task, also if that panics or its runtime ends:
/// calls would go on being given to it.
struct Up {
    link: Arc<Link>,
    /// Why it ended.
    cause: TransportError,
}

impl Drop for Up {
    fn drop(&mut self) {
        let Self { link, cause } = self;
        link.channel.link_down(link.id, &cause.to_string());
    }
}

/// Serves a link until it ends. `leaves` is used, or dropped, when it takes no more calls.
pub(super) async fn serve(
    channel: Arc<Channel>,
    endpoint: usize,
    peer: Peer,
    sender: LinkSender,
    receiver: LinkReceiver,
    leaves: oneshot::Sender<()>,
) {
    let wake = Arc::default();
    let extended = peer.extended;
    let id = channel.link_up(endpoint, peer, &wake);
    tracing::info!(endpoint = &*channel.endpoints[endpoint], "connected");
    let link = Arc::new(Link {
        channel,
        id,
        extended,
        wake,
        received: AtomicU64::new(0),
        sending: AtomicBool::new(false),
    });
    let mut up = Up { link: Arc::clone(&link), cause: "its task ended".into() };
    // Tasks of their own: a link is read even while its sender waits for room, and what wakes one
    // of them does not poll what the others wait for.
    let mut tasks = JoinSet::new();
    tasks.spawn(receive(Arc::clone(&link), receiver));
    tasks.spawn(send(Arc::clone(&link), sender, leaves));
    up.cause = tokio::select! {
        ended = tasks.join_next() => match ended {
            Some(Ok(cause)) => cause,
            _ => "one of its tasks ended".into(),
        },
        cause = watch(&link) => cause,
        () = flushed(&link) => "the client was closed".into(),
    };
    // What they are doing they finish, before it is decided what became of calls.
    tasks.shutdown().await;
    if !*link.channel.closing.borrow() {
        tracing::warn!(endpoint = &*link.channel.endpoints[endpoint], cause = %up.cause, "disconnected");
    }
}

/// Sends what is queued, until the link is lost or its server has answered everything and leaves.
async fn send(
    link: Arc<Link>,
    mut sender: LinkSender,
    leaves: oneshot::Sender<()>,
) -> TransportError {
    let mut leaves = Some(leaves);
    let mut outgoing = Vec::new();
    let mut turn = Turn::default();
    loop {
        // Before it is taken: what is queued, or being sent, is seen by whoever asks for both in
        // this order.
        link.sending.store(true, Ordering::Relaxed);
        let progress = link.channel.take(link.id, TAKEN, Instant::now(), &mut outgoing);
        if progress.leaving
            && let Some(leaves) = leaves.take()
        {
            // An error would mean that the channel closes.
            let _ = leaves.send(());
        }
        if outgoing.is_empty() {
            link.sending.store(false, Ordering::Relaxed);
            if progress.leaving && !progress.awaits {
                return "the server left".into();
            }
            // The engine writes meanwhile.
            link.wake.notified().await;
            continue;
        }
        for Outgoing { body, notifications } in outgoing.drain(..) {
            if turn.is_over() {
                turn.give_way().await;
            }
            turn.add(1, body.len());
            if let Err(cause) = sender.send(body).await {
                return cause;
            }
            if !notifications.is_empty() {
                let done = notifications.into_iter().map(|id| (id, Bytes::new()));
                link.channel.complete(link.id, done, &mut Vec::new());
            }
        }
        // Sending never waits for the engine, which is to write what it has while more is made
        // ready.
        if link.channel.has_outgoing(link.id) {
            turn.give_way().await;
        }
    }
}

/// Hands replies to their calls until the link ends, and tells why it did.
async fn receive(link: Arc<Link>, mut receiver: LinkReceiver) -> TransportError {
    let (mut replies, mut wakers) = (Vec::new(), Vec::new());
    let mut turn = Turn::default();
    loop {
        let mut next = pin!(receiver.recv());
        let taken = poll_fn(|cx| {
            let taken = next.as_mut().poll(cx);
            // Only when nothing more is there, so that it costs one lock and not many.
            if !matches!(taken, Poll::Ready(Ok(_))) {
                link.channel.complete(link.id, replies.drain(..), &mut wakers);
            }
            taken
        });
        match taken.await {
            Ok(body) => {
                turn.add(1, body.len());
                take_in(&link, body, &mut replies);
            }
            Err(cause) => return cause,
        }
        if replies.len() >= RECEIVED || turn.is_over() {
            link.channel.complete(link.id, replies.drain(..), &mut wakers);
            // To other links, and to the callers if they are on this thread.
            turn.give_way().await;
        }
    }
}

/// Deals with what has come; a reply that ends its call is put into `replies`.
fn take_in(link: &Link, body: Bytes, replies: &mut Vec<(MsgId, Bytes)>) {
    // Whatever it is, somebody is there.
    link.received.fetch_add(1, Ordering::Relaxed);
    match batch::unpack(&body) {
        // What is malformed is nobody's reply.
        Some(messages) => {
            messages.flatten().for_each(|message| take_in_one(link, message, replies))
        }
        None => take_in_one(link, body, replies),
    }
}

fn take_in_one(link: &Link, body: Bytes, replies: &mut Vec<(MsgId, Bytes)>) {
    match message::classify(&body) {
        Incoming::Response { id, failed } => match refusal(link, failed, &body) {
            Some(error) => link.channel.fail(link.id, id, error),
            None => replies.push((id, body)),
        },
        Incoming::Goodbye => link.channel.leave(link.id),
        // A reply that nobody waits for any more, or something of a later version.
        Incoming::Other => {}
    }
}

/// Why a response does not end its call, or not by itself: it is too large, or allows another try.
fn refusal(link: &Link, failed: bool, body: &Bytes) -> Option<RpcError> {
    let (size, limit) = (body.len(), link.channel.carrier.max_message_size);
    if size > limit {
        let message =
            format!("the reply has {size} bytes, and the client's max_message_size is {limit}");
        // It may be an error that says that the function did not run.
        return Some(RpcError::new(ErrorKind::TooLarge { size, limit }, Ran::Maybe, message));
    }
    if !failed {
        return None;
    }
    let Some(Err(error)) = message::parse_response(body) else { return None };
    matches!(error.kind(), ErrorKind::Overloaded | ErrorKind::ShuttingDown).then_some(error)
}

/// Asks a server that owes replies and says nothing whether it is there, and gives it up when it
/// has been silent for too long. Never ends if the peer knows no pings.
async fn watch(link: &Link) -> TransportError {
    if !link.extended {
        return std::future::pending().await;
    }
    let max_silence = link.channel.max_silence;
    let tick = max_silence / LOOKS;
    let (mut seen, mut unanswered) = (0, 0);
    loop {
        let due = Instant::now() + tick;
        time::sleep_until(due.into()).await;
        let received = link.received.load(Ordering::Relaxed);
        // Once it was asked it owes an answer, even if every call has ended meanwhile.
        if received != seen || (unanswered == 0 && !link.channel.awaits(link.id)) {
            (seen, unanswered) = (received, 0);
            continue;
        }
        // This thread did not run, so what the server said may still be unread.
        if due.elapsed() > tick {
            continue;
        }
        if unanswered + 1 == LOOKS {
            return format!("the server has been silent for {max_silence:?}").into();
        }
        unanswered += 1;
        link.channel.ping(link.id);
    }
}

/// Completes when the channel was closed and what was queued has been sent; a server that can say
/// so has read it then.
async fn flushed(link: &Link) {
    const LOOK_AGAIN: Duration = Duration::from_millis(1);
    link.channel.closing().await;
    if link.extended {
        return link.channel.flush(link.id).await;
    }
    // What the socket has taken is all that can be known.
    let give_up = Instant::now() + LINGER;
    let waits = || link.channel.has_outgoing(link.id) || link.sending.load(Ordering::Relaxed);
    while waits() && Instant::now() < give_up {
        time::sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::room::{Room, WhenFull},
        engine::Engine,
        transport::{self, Carrier, Listener},
    };

    #[tokio::test]
    async fn a_link_whose_task_ends_anyhow_is_down() {
        let endpoint = crate::endpoint::Endpoint::Inproc("a test of links".to_owned());
        let carrier = Carrier { engine: Engine::default(), max_message_size: 1_000 };
        let _listeners = Listener::bind(vec![endpoint.clone()], carrier)
            .await
            .map_err(|(_, cause)| cause)
            .unwrap();
        let by = Instant::now() + Duration::from_secs(60);
        let (sender, receiver) = transport::connect(&endpoint, carrier, by).await.unwrap();
        let room = Room::new(1, 1_000, WhenFull::Wait);
        let channel = Channel::new(vec!["here".into()], room, carrier, Duration::from_secs(60));
        let peer = Peer { extended: true, max_message_size: 1_000, batches: false, instance: None };
        let (leaves, _left) = oneshot::channel();
        let task = tokio::spawn(serve(Arc::clone(&channel), 0, peer, sender, receiver, leaves));
        channel.first().await.unwrap();
        assert_eq!(channel.lock().in_flight.why_no_link(), None);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(channel.lock().in_flight.why_no_link().as_deref(), Some("its task ended"));
    }
}
