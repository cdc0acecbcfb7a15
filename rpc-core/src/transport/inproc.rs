//! `inproc://name`: clients and servers of one process, over channels. The body is the same as on a
//! wire.

use std::{
    collections::HashMap,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    shares::Part,
    transport::{Envelope, Event, TransportError},
};

/// Requests that wait for a server to take them; a client's sender waits when it is full.
const REQUEST_QUEUE: usize = 4_096;
/// Replies that wait for a client to take them; beyond it they are dropped. It is about what the
/// server lets one peer have unread, so that only one that stopped reading gets there.
const REPLY_QUEUE: usize = 65_536;
/// A body, and what it counts as long as it is unread.
type UnreadBody = (Bytes, Part);

enum FromClient {
    Connected { peer: Bytes, replies: mpsc::Sender<UnreadBody> },
    Message { peer: Bytes, body: Bytes },
}

#[derive(Clone)]
struct Entrance {
    requests: mpsc::Sender<FromClient>,
    /// Apart from the bounded queue, because a client that goes cannot wait; one message a client.
    gone: mpsc::UnboundedSender<Bytes>,
}

/// Every name that is listened on in this process: as many as listeners.
static ENTRANCES: LazyLock<Mutex<HashMap<String, Entrance>>> = LazyLock::new(Mutex::default);

fn entrances() -> MutexGuard<'static, HashMap<String, Entrance>> {
    ENTRANCES.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Listener {
    requests: mpsc::Receiver<FromClient>,
    gone: mpsc::UnboundedReceiver<Bytes>,
    /// Taken out of `gone`, and how many messages were queued then: what it sent is among them, and
    /// comes first.
    going: Option<(Bytes, usize)>,
    /// One for each client that is connected.
    peers: HashMap<Bytes, mpsc::Sender<UnreadBody>>,
    /// Given up when the listener stops accepting.
    name: Option<String>,
}

impl Listener {
    pub(super) fn bind(name: &str) -> Result<Self, TransportError> {
        let mut entrances = entrances();
        if entrances.contains_key(name) {
            return Err("the name is taken in this process".into());
        }
        let (requests, from_clients) = mpsc::channel(REQUEST_QUEUE);
        let (gone, from_gone) = mpsc::unbounded_channel();
        entrances.insert(name.to_owned(), Entrance { requests, gone });
        Ok(Self {
            requests: from_clients,
            gone: from_gone,
            going: None,
            peers: HashMap::new(),
            name: Some(name.to_owned()),
        })
    }

    pub(super) async fn recv(&mut self) -> Event {
        loop {
            // Looked at even if there is always something to receive.
            if self.going.is_none()
                && let Ok(peer) = self.gone.try_recv()
            {
                self.going = Some((peer, self.requests.len()));
            }
            if let Some((peer, _)) = self.going.take_if(|(_, queued)| *queued == 0) {
                self.peers.remove(&peer);
                return Event::PeerGone(peer);
            }
            tokio::select! {
                Some(message) = self.requests.recv() => {
                    if let Some((_, queued)) = &mut self.going {
                        *queued -= 1;
                    }
                    if let Some(event) = self.take(message) {
                        return event;
                    }
                }
                Some(peer) = self.gone.recv(), if self.going.is_none() => {
                    self.going = Some((peer, self.requests.len()));
                }
                else => std::future::pending().await,
            }
        }
    }

    fn take(&mut self, message: FromClient) -> Option<Event> {
        match message {
            FromClient::Connected { peer, replies } => {
                self.peers.insert(peer, replies);
                None
            }
            FromClient::Message { peer, body } => Some(Event::Message(Envelope::new(peer), body)),
        }
    }

    pub(super) fn send(&mut self, envelope: &Envelope, body: Bytes, part: Part) -> bool {
        self.peers
            .get(envelope.peer())
            .is_some_and(|replies| replies.try_send((body, part)).is_ok())
    }

    pub(super) fn stop_accepting(&mut self) {
        if let Some(name) = self.name.take() {
            entrances().remove(&name);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop_accepting();
    }
}

pub(super) async fn connect(name: &str) -> Result<(LinkSender, LinkReceiver), TransportError> {
    static NEXT_PEER: AtomicU64 = AtomicU64::new(1);
    let entrance = entrances().get(name).cloned().ok_or("nothing listens there in this process")?;
    let peer = Bytes::copy_from_slice(&NEXT_PEER.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let (replies, receiver) = mpsc::channel(REPLY_QUEUE);
    let connected = FromClient::Connected { peer: peer.clone(), replies };
    entrance.requests.send(connected).await.map_err(|_| LOST)?;
    Ok((LinkSender { peer, entrance }, LinkReceiver(receiver)))
}

const LOST: &str = "the server has gone";

pub(crate) struct LinkSender {
    peer: Bytes,
    entrance: Entrance,
}

impl LinkSender {
    pub(super) async fn send(&mut self, body: Bytes) -> Result<(), TransportError> {
        let message = FromClient::Message { peer: self.peer.clone(), body };
        Ok(self.entrance.requests.send(message).await.map_err(|_| LOST)?)
    }
}

impl Drop for LinkSender {
    fn drop(&mut self) {
        // It fails only if the server has gone as well.
        let _ = self.entrance.gone.send(self.peer.clone());
    }
}

pub(crate) struct LinkReceiver(mpsc::Receiver<UnreadBody>);

impl LinkReceiver {
    pub(super) async fn recv(&mut self) -> Result<Bytes, TransportError> {
        let (body, _part) = self.0.recv().await.ok_or(LOST)?;
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::*;
    use crate::shares::{Share, Total};

    /// What is ready at once, outside a runtime, which would make who sends much wait for others.
    fn ready<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("there is nothing to wait for")
    }

    fn listen_and_connect(name: &str) -> (Listener, LinkSender, LinkReceiver) {
        let listener = Listener::bind(name).unwrap();
        let (sender, receiver) = ready(connect(name)).unwrap();
        (listener, sender, receiver)
    }

    #[test]
    fn a_sender_waits_while_the_queue_of_requests_is_full() {
        let (mut listener, mut sender, _replies) = listen_and_connect("a test of requests");
        // It has connected, which is the first of them.
        for _ in 1..REQUEST_QUEUE {
            ready(sender.send(Bytes::new())).unwrap();
        }
        assert!(sender.send(Bytes::new()).now_or_never().is_none());
        assert!(matches!(ready(listener.recv()), Event::Message(..)));
        ready(sender.send(Bytes::new())).unwrap();
    }

    #[test]
    fn replies_are_dropped_while_their_queue_is_full() {
        let (mut listener, mut sender, mut replies) = listen_and_connect("a test of replies");
        ready(sender.send(Bytes::new())).unwrap();
        let Event::Message(envelope, _) = ready(listener.recv()) else {
            panic!("it has sent a message")
        };
        let share = Share::new(&Arc::new(Total::new(0, 0)));
        let mut reply =
            || listener.send(&envelope, Bytes::new(), share.take(0).expect("it counts nothing"));
        assert!((0..REPLY_QUEUE).all(|_| reply()));
        assert!(!reply());
        ready(replies.recv()).unwrap();
        assert!(reply());
    }

    #[test]
    fn clients_that_go_all_at_once_are_all_noticed_and_forgotten() {
        const CLIENTS: usize = 1_000;
        let name = "a test of many";
        let mut listener = Listener::bind(name).unwrap();
        for _ in 0..CLIENTS {
            drop(ready(connect(name)).unwrap());
        }
        for _ in 0..CLIENTS {
            assert!(matches!(ready(listener.recv()), Event::PeerGone(_)));
        }
        assert!(listener.peers.is_empty());
        assert!(listener.recv().now_or_never().is_none());
    }

    #[test]
    fn a_peer_that_goes_is_noticed_however_busy_others_are() {
        let (mut listener, mut busy, _replies) = listen_and_connect("a test of leaving");
        let (mut leaving, _) = ready(connect("a test of leaving")).unwrap();
        ready(leaving.send(Bytes::from_static(b"last words"))).unwrap();
        ready(busy.send(Bytes::from_static(b"more"))).unwrap();
        let peer = leaving.peer.clone();
        drop(leaving);
        let mut heard = false;
        for _ in 0..10 {
            ready(busy.send(Bytes::from_static(b"more"))).unwrap();
            match ready(listener.recv()) {
                Event::PeerGone(gone) => return assert_eq!((gone, heard), (peer, true)),
                Event::Message(_, body) => heard |= body == "last words",
                Event::Malformed(..) => unreachable!("there are no frames"),
            }
        }
        panic!("nobody noticed");
    }
}
