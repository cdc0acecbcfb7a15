//! tcp and ipc on the `zeromq` crate: the only file that names it.
//!
//! What the engine leaves to us: it does not reconnect, it tells of a lost peer through its monitor
//! only, its `send` waits when a peer's queue (100,000 messages) is full. The server sees to it
//! that this never is.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use futures_channel::mpsc;
use futures_core::Stream;
use futures_util::{FutureExt, StreamExt};
use zeromq::{
    DealerRecvHalf, DealerSendHalf, DealerSocket, RouterRecvHalf, RouterSendHalf, RouterSocket,
    Socket, SocketEvent, SocketOptions, SocketRecv, SocketSend, ZmqError, ZmqMessage,
};

use crate::{
    endpoint::Endpoint,
    transport::{
        Envelope, Event, TransportError, explain, open,
        socket_file::{self, SocketFile},
    },
};

type Monitor = Box<dyn Stream<Item = SocketEvent> + Send + Unpin>;

/// A ROUTER socket that is being bound.
pub(super) struct Binding {
    socket: RouterSocket,
    files: Vec<SocketFile>,
}

impl Binding {
    pub(super) fn new() -> Self {
        Self { socket: RouterSocket::new(), files: Vec::new() }
    }

    /// Listens on one more endpoint, and tells where.
    pub(super) async fn bind(&mut self, endpoint: &Endpoint) -> Result<String, TransportError> {
        if let Endpoint::Ipc(path) = endpoint {
            let (listener, file) = socket_file::listen(path).await?;
            self.socket.bind_listener(listener).await.map_err(cause)?;
            self.files.push(file);
            return Ok(endpoint.to_string());
        }
        let bound = self.socket.bind(&endpoint.to_string()).await.map_err(cause)?;
        Ok(bound.to_string())
    }

    pub(super) fn listen(mut self) -> Listener {
        // Its own monitor has room for 1,024 events, and one look at the sockets can find more
        // peers that have gone.
        let (events, monitor) = mpsc::channel(MAX_EVENTS);
        self.socket.backend().monitor().lock().replace(events);
        // The halves cannot unbind: these handles stop accepting when they are dropped.
        let accepting = std::mem::take(self.socket.binds());
        let (sender, receiver) = self.socket.split();
        let accepting = Accepting { _files: self.files, _handles: Box::new(accepting) };
        Listener { sender, receiver, monitor, accepting: Some(accepting) }
    }
}

/// The engine wraps what went wrong in words of its own, of which the innermost say enough.
fn cause(error: ZmqError) -> TransportError {
    match error {
        ZmqError::Network(cause) => cause.into(),
        ZmqError::Codec(cause) => cause.to_string().into(),
        other => other.into(),
    }
}

/// A ROUTER socket.
pub(crate) struct Listener {
    sender: RouterSendHalf,
    receiver: RouterRecvHalf,
    monitor: mpsc::Receiver<SocketEvent>,
    /// `None` once it has stopped accepting.
    accepting: Option<Accepting>,
}

/// How many events may wait: more than a process has connections, and so more than can be lost at
/// once.
const MAX_EVENTS: usize = 1 << 20;

/// Dropped to stop accepting. The files go first, see [`SocketFile`].
struct Accepting {
    _files: Vec<SocketFile>,
    _handles: Box<dyn Send>,
}

impl Listener {
    pub(super) async fn recv(&mut self) -> Event {
        loop {
            tokio::select! {
                // The news of lost peers come first, because receiving makes more of them.
                biased;
                Some(event) = self.monitor.next() => {
                    if let SocketEvent::Disconnected(peer) = event {
                        return Event::PeerGone(peer.into());
                    }
                }
                message = self.receiver.recv() => {
                    // The engine's queue never ends, so there are no errors to be seen here.
                    if let Some(event) = message.ok().and_then(|message| open(message.into_vecdeque())) {
                        return event;
                    }
                }
            }
        }
    }

    pub(super) fn send(&mut self, envelope: Envelope, body: Bytes) -> bool {
        let Ok(message) = ZmqMessage::try_from(envelope.with(body)) else { return false };
        // Polled once. A send that waited would hold the engine's entry for the peer, and stop
        // every other.
        self.sender.send(message).now_or_never().is_some_and(|sent| sent.is_ok())
    }

    pub(super) fn stop_accepting(&mut self) {
        self.accepting = None;
    }
}

/// Opens a DEALER socket. Its identity is the server's choice: a fixed one could take another
/// client's place.
pub(super) async fn connect(
    endpoint: &Endpoint,
    timeout: Duration,
) -> Result<(LinkSender, LinkReceiver), TransportError> {
    let mut options = SocketOptions::default();
    options.connect_timeout(timeout);
    let mut socket = DealerSocket::with_options(options);
    let monitor = Box::new(socket.monitor());
    if let Err(error) = socket.connect(&endpoint.to_string()).await {
        // It has tried again and again until its time was up, and does not say why it failed.
        let ZmqError::ConnectTimeout(_) = error else { return Err(cause(error)) };
        return Err(explain::NOT_ZEROMQ.into());
    }
    let (sender, receiver) = socket.split();
    Ok((LinkSender(sender), LinkReceiver { receiver, monitor }))
}

/// When the engine's queue (100,000 messages) is full the sending task waits; calls then wait in
/// the client's table.
pub(crate) struct LinkSender(DealerSendHalf);

impl LinkSender {
    pub(super) async fn send(&mut self, body: Bytes) -> Result<(), TransportError> {
        let frames = VecDeque::from([Bytes::new(), body]);
        let message =
            ZmqMessage::try_from(frames).map_err(|_| "a message has at least one frame")?;
        self.0.send(message).await.map_err(cause)
    }
}

pub(crate) struct LinkReceiver {
    receiver: DealerRecvHalf,
    monitor: Monitor,
}

impl LinkReceiver {
    pub(super) async fn recv(&mut self) -> Result<Bytes, TransportError> {
        loop {
            tokio::select! {
                biased;
                message = self.receiver.recv() => {
                    // Whatever stands in front of the body is the envelope of our own making.
                    if let Some(body) = message.map_err(cause)?.into_vecdeque().pop_back() {
                        return Ok(body);
                    }
                }
                event = self.monitor.next() => match event {
                    Some(SocketEvent::Disconnected(_)) | None => return Err("the server closed it".into()),
                    Some(_) => {}
                }
            }
        }
    }
}
