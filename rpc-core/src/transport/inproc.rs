//! `inproc://name`: clients and servers of one process, over channels. The body is the same as on a
//! wire.

use std::{
    collections::HashMap,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{
    peer::PeerId,
    transport::{self, Event, Link, LinkEvent, ReplyTo, TransportError, poll_adapter::PollAdapter},
    util::fair_share::Lease,
};

/// The requests that may wait for a server to take them. While the queue is full, a client's sending
/// task waits.
const REQUEST_QUEUE: usize = 4_096;
/// The replies that may wait for a client to take them. More are dropped. A server's egress quota lets
/// one peer have about as many unread, so that only a client that stopped reading gets there.
const REPLY_QUEUE: usize = 65_536;

/// A body, and the lease that it holds while it is unread.
type UnreadBody = (Bytes, Lease);

#[derive(Debug)]
enum FromClient {
    Connected { peer: PeerId, replies: mpsc::Sender<UnreadBody> },
    Body { peer: PeerId, body: Bytes },
}

/// The way to a listener.
#[derive(Clone)]
struct Entrance {
    requests: mpsc::Sender<FromClient>,
    /// Apart from the bounded queue, because a client that disconnects cannot wait. It takes one
    /// message for each client.
    gone: mpsc::UnboundedSender<PeerId>,
}

/// The entrances of all names that are listened on in this process.
static ENTRANCES: LazyLock<Mutex<HashMap<String, Entrance>>> = LazyLock::new(Mutex::default);

fn entrances() -> MutexGuard<'static, HashMap<String, Entrance>> {
    ENTRANCES.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Listener {
    requests: mpsc::Receiver<FromClient>,
    gone: mpsc::UnboundedReceiver<PeerId>,
    /// A peer from `gone`, and the number of requests that were queued then: the last ones of the peer
    /// are among them, and come first.
    going: Option<(PeerId, usize)>,
    /// One for each client that is connected.
    peers: HashMap<PeerId, mpsc::Sender<UnreadBody>>,
    /// `None` once the listener has stopped accepting.
    name: Option<String>,
}

pub(super) fn listen(name: &str) -> Result<Listener, TransportError> {
    let mut entrances = entrances();
    if entrances.contains_key(name) {
        return Err("the name is taken in this process".into());
    }
    let (requests, from_clients) = mpsc::channel(REQUEST_QUEUE);
    let (gone, from_gone) = mpsc::unbounded_channel();
    entrances.insert(name.to_owned(), Entrance { requests, gone });
    Ok(Listener {
        requests: from_clients,
        gone: from_gone,
        going: None,
        peers: HashMap::new(),
        name: Some(name.to_owned()),
    })
}

impl transport::Listener for Listener {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            // Polled even if there is always something to receive.
            if self.going.is_none()
                && let Poll::Ready(Some(peer)) = self.gone.poll_recv(cx)
            {
                self.going = Some((peer, self.requests.len()));
            }
            if let Some((peer, _)) = self.going.take_if(|(_, queued)| *queued == 0) {
                self.peers.remove(&peer);
                return Poll::Ready(Event::PeerGone(peer));
            }
            // None means that every client has gone and the name was given up.
            let Some(message) = ready!(self.requests.poll_recv(cx)) else { return Poll::Pending };
            if let Some((_, queued)) = &mut self.going {
                *queued -= 1;
            }
            match message {
                FromClient::Connected { peer, replies } => {
                    self.peers.insert(peer, replies);
                }
                FromClient::Body { peer, body } => {
                    let reply_to = ReplyTo::direct(peer);
                    return Poll::Ready(Event::Body(reply_to, body));
                }
            }
        }
    }

    fn send(&mut self, reply_to: ReplyTo, body: Bytes, lease: Lease) -> bool {
        let replies = self.peers.get(reply_to.peer());
        replies.is_some_and(|replies| replies.try_send((body, lease)).is_ok())
    }

    fn stop_accepting(&mut self) {
        if let Some(name) = self.name.take() {
            entrances().remove(&name);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        transport::Listener::stop_accepting(self);
    }
}

pub(super) async fn connect(name: &str) -> Result<Link, TransportError> {
    static NEXT_PEER: AtomicU64 = AtomicU64::new(1);
    let entrance = entrances().get(name).cloned().ok_or("nothing listens there in this process")?;
    let number = NEXT_PEER.fetch_add(1, Ordering::Relaxed);
    let peer = PeerId::new(Bytes::copy_from_slice(&number.to_be_bytes()));
    let (replies, receiver) = mpsc::channel(REPLY_QUEUE);
    let connected = FromClient::Connected { peer: peer.clone(), replies };
    entrance.requests.send(connected).await.map_err(|_| LOST)?;
    let requests = PollAdapter::Idle(entrance.requests);
    let sender = LinkSender { peer, requests, gone: entrance.gone };
    Ok((Box::new(sender), Box::new(LinkReceiver(receiver))))
}

const LOST: &str = "the server has gone";

struct LinkSender {
    peer: PeerId,
    requests: PollAdapter<mpsc::Sender<FromClient>, Result<(), TransportError>>,
    gone: mpsc::UnboundedSender<PeerId>,
}

impl transport::LinkSender for LinkSender {
    fn poll_send(
        &mut self,
        body: &mut Option<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TransportError>> {
        let mut message = None;
        if let Some(requests) = self.requests.idle() {
            let body = body.take().unwrap_or_default();
            match requests.try_send(FromClient::Body { peer: self.peer.clone(), body }) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(TrySendError::Closed(_)) => return Poll::Ready(Err(LOST.into())),
                Err(TrySendError::Full(full)) => message = Some(full),
            }
        }
        let begin = |requests| send(requests, message);
        self.requests.poll(begin, cx)
    }
}

/// Waits for room in the queue.
async fn send(
    requests: mpsc::Sender<FromClient>,
    message: Option<FromClient>,
) -> (mpsc::Sender<FromClient>, Result<(), TransportError>) {
    let mut sent = Ok(());
    if let Some(message) = message {
        sent = requests.send(message).await.map_err(|_| LOST.into());
    }
    (requests, sent)
}

impl Drop for LinkSender {
    fn drop(&mut self) {
        // It fails only if the server has gone as well.
        let _ = self.gone.send(self.peer.clone());
    }
}

struct LinkReceiver(mpsc::Receiver<UnreadBody>);

impl transport::LinkReceiver for LinkReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<LinkEvent, TransportError>> {
        let received = ready!(self.0.poll_recv(cx));
        let (body, _lease) = received.ok_or(LOST)?;
        Poll::Ready(Ok(LinkEvent::Body(body)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::*;
    use crate::util::fair_share::{Share, SharedLimit};

    /// Returns the output of a future that is ready at once. It is polled outside of a runtime, which
    /// would make a busy sender wait for others.
    fn ready<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("there is nothing to wait for")
    }

    fn listen_boxed(name: &str) -> Box<dyn transport::Listener> {
        Box::new(listen(name).unwrap())
    }

    #[test]
    fn sender_waits_while_the_request_queue_is_full() {
        let mut listener = listen_boxed("a test of requests");
        let (mut sender, _replies) = ready(connect("a test of requests")).unwrap();
        // The first of them is that it has connected.
        for _ in 1..REQUEST_QUEUE {
            ready(sender.send(Bytes::new())).unwrap();
        }
        let mut body = Some(Bytes::from_static(b"the last one"));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(sender.poll_send(&mut body, &mut cx).is_pending());
        assert!(matches!(ready(listener.recv()), Event::Body(..)));
        assert!(matches!(sender.poll_send(&mut body, &mut cx), Poll::Ready(Ok(()))));
        for _ in 2..REQUEST_QUEUE {
            ready(listener.recv());
        }
        let Event::Body(_, body) = ready(listener.recv()) else { panic!("it was sent") };
        assert_eq!(body, "the last one");
    }

    #[test]
    fn replies_are_dropped_while_their_queue_is_full() {
        let mut listener = listen_boxed("a test of replies");
        let (mut sender, mut replies) = ready(connect("a test of replies")).unwrap();
        ready(sender.send(Bytes::new())).unwrap();
        let Event::Body(reply_to, _) = ready(listener.recv()) else { panic!("it has sent a body") };
        let share = Share::new(&Arc::new(SharedLimit::new(0, 0)));
        let mut reply = || {
            let lease = share.acquire(0).expect("it counts nothing");
            listener.send(reply_to.clone(), Bytes::new(), lease)
        };
        assert!((0..REPLY_QUEUE).all(|_| reply()));
        assert!(!reply());
        ready(replies.recv()).unwrap();
        assert!(reply());
    }

    #[test]
    fn clients_that_disconnect_together_are_forgotten() {
        const CLIENTS: usize = 1_000;
        let name = "a test of many";
        let mut listener = listen_boxed(name);
        for _ in 0..CLIENTS {
            drop(ready(connect(name)).unwrap());
        }
        for _ in 0..CLIENTS {
            assert!(matches!(ready(listener.recv()), Event::PeerGone(_)));
        }
        assert!(listener.recv().now_or_never().is_none());
    }

    #[test]
    fn lost_peer_is_noticed_beside_a_busy_one() {
        let name = "a test of disconnecting";
        let mut listener = listen_boxed(name);
        let (mut busy, _replies) = ready(connect(name)).unwrap();
        let (mut other, _) = ready(connect(name)).unwrap();
        ready(other.send(Bytes::from_static(b"last words"))).unwrap();
        ready(busy.send(Bytes::from_static(b"more"))).unwrap();
        drop(other);
        let mut heard = None;
        for _ in 0..10 {
            ready(busy.send(Bytes::from_static(b"more"))).unwrap();
            match ready(listener.recv()) {
                Event::PeerGone(gone) => return assert_eq!(Some(gone), heard),
                Event::Body(reply_to, body) if body == "last words" => {
                    heard = Some(reply_to.peer().clone());
                }
                Event::Body(..) => {}
                Event::Malformed(..) => unreachable!("there are no frames"),
            }
        }
        panic!("the lost peer was not noticed");
    }
}
