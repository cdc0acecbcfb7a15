//! The transport for `inproc://name`: channels between clients and servers of one process. The
//! bodies are the same as on a wire.

use std::{
    collections::VecDeque,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use foldhash::HashMap;
use futures_util::task::AtomicWaker;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{
    peer::PeerId,
    transport::{self, Event, Link, LinkEvent, ReplyTo, TransportError, poll_adapter::PollAdapter},
    util::fair_share::Lease,
};

/// The number of requests that may wait until a server takes them. While the queue is full, the
/// sending task of a client waits.
const REQUEST_QUEUE: usize = 4_096;
/// The number of replies that may wait until a client takes them. Further replies are dropped. The
/// egress quota of a server allows one peer about as many, so that only a client that has stopped
/// reading fills the queue.
const REPLY_QUEUE: usize = 65_536;

/// A body that a client has not taken yet, with its lease of the server's egress quota.
type UnreadBody = (Bytes, Lease);

#[derive(Debug)]
enum FromClient {
    Connected { peer: PeerId, replies: mpsc::Sender<UnreadBody> },
    Body { peer: PeerId, body: Bytes },
}

/// The sending ends of the channels to a listener.
#[derive(Clone)]
struct Entrance {
    requests: mpsc::Sender<FromClient>,
    gone: Arc<Gone>,
}

/// The peers that have disconnected. They do not use the bounded queue, because a client that
/// disconnects cannot wait. There is at most one entry for each client. To see that there is none
/// takes fewer instructions than with a channel, and a listener looks whenever it has nothing else.
#[derive(Default)]
struct Gone {
    peers: Mutex<VecDeque<PeerId>>,
    /// The number of `peers`.
    count: AtomicUsize,
    listener: AtomicWaker,
}

impl Gone {
    fn push(&self, peer: PeerId) {
        let mut peers = self.lock();
        peers.push_back(peer);
        self.count.store(peers.len(), Ordering::Release);
        drop(peers);
        self.listener.wake();
    }

    fn pop(&self) -> Option<PeerId> {
        if self.is_empty() {
            return None;
        }
        let mut peers = self.lock();
        let peer = peers.pop_front();
        self.count.store(peers.len(), Ordering::Release);
        peer
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<PeerId>> {
        // A poisoned lock can be ignored, because nothing panics while it is held.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entrances of all listeners in this process, by name.
static ENTRANCES: LazyLock<Mutex<HashMap<String, Entrance>>> = LazyLock::new(Mutex::default);

fn entrances() -> MutexGuard<'static, HashMap<String, Entrance>> {
    ENTRANCES.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Listener {
    requests: mpsc::Receiver<FromClient>,
    gone: Arc<Gone>,
    /// A peer from `gone`, and the number of queued requests that must be handled before its
    /// departure is reported: the last requests of the peer are among them.
    going: Option<(PeerId, usize)>,
    /// The reply queue of each connected client.
    peers: HashMap<PeerId, mpsc::Sender<UnreadBody>>,
    /// The name of the listener. `None` once it has stopped accepting.
    name: Option<String>,
}

pub(super) fn listen(name: &str) -> Result<Listener, TransportError> {
    let mut entrances = entrances();
    if entrances.contains_key(name) {
        return Err("the name is taken in this process".into());
    }
    let (requests, from_clients) = mpsc::channel(REQUEST_QUEUE);
    let gone = Arc::<Gone>::default();
    entrances.insert(name.to_owned(), Entrance { requests, gone: Arc::clone(&gone) });
    Ok(Listener {
        requests: from_clients,
        gone,
        going: None,
        peers: HashMap::default(),
        name: Some(name.to_owned()),
    })
}

impl transport::Listener for Listener {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            // This comes first, so that it is noticed even if there is always a request to receive.
            if self.going.is_none() {
                self.going = self.gone.pop().map(|peer| (peer, self.requests.len()));
            }
            if let Some((peer, _)) = self.going.take_if(|(_, queued)| *queued == 0) {
                self.peers.remove(&peer);
                return Poll::Ready(Event::PeerGone(peer));
            }
            // `None` means that every client has disconnected and the name was given up.
            let Poll::Ready(Some(message)) = self.requests.poll_recv(cx) else {
                self.gone.listener.register(cx.waker());
                // One may have come before the waker was registered. While messages of a client
                // that is going are still in the queue, the runtime has only interrupted this task.
                if self.going.is_some() || self.gone.is_empty() {
                    return Poll::Pending;
                }
                continue;
            };
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
    let peer = PeerId::unverified(Bytes::copy_from_slice(&number.to_be_bytes()));
    let (replies, receiver) = mpsc::channel(REPLY_QUEUE);
    let connected = FromClient::Connected { peer: peer.clone(), replies };
    entrance.requests.send(connected).await.map_err(|_| LOST)?;
    let requests = PollAdapter::Idle(entrance.requests);
    let sender = LinkSender { peer, requests, gone: entrance.gone };
    Ok(Link::to_peer(sender, LinkReceiver(receiver)))
}

const LOST: &str = "the server has gone";

struct LinkSender {
    peer: PeerId,
    requests: PollAdapter<mpsc::Sender<FromClient>, Result<(), TransportError>>,
    gone: Arc<Gone>,
}

impl transport::LinkSender for LinkSender {
    fn poll_send(
        &mut self,
        body: &mut Option<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TransportError>> {
        let mut message = None;
        if let Some(requests) = self.requests.idle() {
            let body = body.take().expect("the first poll has a body");
            match requests.try_send(FromClient::Body { peer: self.peer.clone(), body }) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(TrySendError::Closed(_)) => return Poll::Ready(Err(LOST.into())),
                Err(TrySendError::Full(full)) => message = Some(full),
            }
        }
        let begin = |requests| send(requests, message.expect("the queue was full"));
        self.requests.poll(begin, cx)
    }
}

/// Sends a message when the queue has capacity for it.
async fn send(
    requests: mpsc::Sender<FromClient>,
    message: FromClient,
) -> (mpsc::Sender<FromClient>, Result<(), TransportError>) {
    let sent = requests.send(message).await.map_err(|_| LOST.into());
    (requests, sent)
}

impl Drop for LinkSender {
    fn drop(&mut self) {
        self.gone.push(self.peer.clone());
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
    use futures_util::FutureExt;

    use super::*;
    use crate::util::fair_share::{Share, SharedLimit};

    /// Returns the output of a future that is ready at once. The future is polled outside of a
    /// runtime, because a runtime would make a busy sender yield to other tasks.
    fn ready<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("there is nothing to wait for")
    }

    fn listen_boxed(name: &str) -> Box<dyn transport::Listener> {
        Box::new(listen(name).unwrap())
    }

    #[test]
    fn sender_waits_while_the_request_queue_is_full() {
        let mut listener = listen_boxed("a test of requests");
        let Link { mut sender, .. } = ready(connect("a test of requests")).unwrap();
        // The queue already contains the message that the client has connected.
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
    fn replies_are_dropped_if_their_queue_is_full() {
        let mut listener = listen_boxed("a test of replies");
        let Link { mut sender, receiver: mut replies, .. } =
            ready(connect("a test of replies")).unwrap();
        ready(sender.send(Bytes::new())).unwrap();
        let Event::Body(reply_to, _) = ready(listener.recv()) else { panic!("it has sent a body") };
        let share = Share::new(&Arc::new(SharedLimit::new(0, 0)));
        let mut reply = || {
            let lease = share.acquire(0).expect("an amount of zero is always allowed");
            listener.send(reply_to.clone(), Bytes::new(), lease)
        };
        assert!((0..REPLY_QUEUE).all(|_| reply()));
        assert!(!reply());
        ready(replies.recv()).unwrap();
        assert!(reply());
    }

    #[test]
    fn simultaneous_disconnects_are_all_noticed() {
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

    #[tokio::test]
    async fn simultaneous_disconnects_are_noticed_by_a_task() {
        // More messages than the runtime lets a task take before it must yield.
        const CLIENTS: usize = 300;
        let name = "a test of many in a task";
        let mut listener = listen_boxed(name);
        for _ in 0..CLIENTS {
            drop(connect(name).await.unwrap());
        }
        let noticing = tokio::spawn(async move {
            for _ in 0..CLIENTS {
                assert!(matches!(listener.recv().await, Event::PeerGone(_)));
            }
        });
        noticing.await.unwrap();
    }

    #[test]
    fn lost_peer_is_noticed_beside_a_busy_one() {
        let name = "a test of disconnecting";
        let mut listener = listen_boxed(name);
        let Link { sender: mut busy, .. } = ready(connect(name)).unwrap();
        let Link { sender: mut other, .. } = ready(connect(name)).unwrap();
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
