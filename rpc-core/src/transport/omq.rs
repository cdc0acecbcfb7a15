//! The transport for tcp and ipc on the `omq-tokio` crate. No other file names that crate.
//!
//! The engine bounds what untrusted peers can do: this file sets its limits for sizes, handshakes
//! and queues. The engine is configured never to reconnect, because requests of a lost connection
//! may have been sent elsewhere since.
//!
//! Two tasks are left to this file: the engine reports lost peers only through its monitor, and it
//! does not report why a host cannot be reached.

pub(super) mod binding;
mod limits;

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use omq_tokio::{
    DisconnectReason, Endpoint, Error, IpcPath, Message, MonitorEvent, MonitorRecvError,
    MonitorStream, MonitorTryRecvError, PeerInfo, Socket, TrySendError, endpoint::Host,
    message::generated_identity,
};
use tokio::{sync::mpsc, time};

use crate::{
    endpoint::IpcAddress,
    peer::PeerId,
    transport::{
        self, Address, Event, Link, LinkEvent, ReplyTo, TransportError, explain,
        poll_adapter::PollAdapter, socket_file::SocketFile, zmtp,
    },
    util::fair_share::Lease,
};

/// The number of further replies that may wait for a peer that reads more slowly than it sends
/// requests. Replies beyond that are dropped. By default, a client of this library has no more
/// calls in flight than that, and so gets all replies.
const REPLIES: usize = 65_536;

fn endpoint(address: &Address) -> Endpoint {
    match address {
        // The engine takes an address with a zone only as a name, which it looks up.
        Address::Tcp(SocketAddr::V6(address)) if address.scope_id() != 0 => {
            let name = format!("{}%{}", address.ip(), address.scope_id());
            Endpoint::Tcp { host: Host::Name(name), port: address.port() }
        }
        Address::Tcp(address) => tcp_endpoint(*address),
        Address::Ipc(IpcAddress::Path(path)) => Endpoint::Ipc(IpcPath::Filesystem(path.clone())),
        Address::Ipc(IpcAddress::Abstract(name)) => Endpoint::Ipc(IpcPath::Abstract(name.clone())),
    }
}

fn tcp_endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::Tcp { host: Host::Ip(address.ip()), port: address.port() }
}

/// Unwraps the error of the operating system, if the engine has wrapped one.
fn cause(error: Error) -> TransportError {
    match error {
        Error::Io(cause) => cause.into(),
        other => other.into(),
    }
}

/// A ROUTER socket.
struct Listener {
    /// The socket files. They must be dropped before the socket, see [`SocketFile`].
    files: Vec<SocketFile>,
    /// The addresses on which the socket accepts peers.
    bound: Vec<Endpoint>,
    socket: Socket,
    incoming: PollAdapter<Incoming, Raw>,
    /// The peers whose queue in the engine was full before, each with the queue of a task that
    /// waits for capacity there. A task ends when its peer has gone, or once its queue is closed
    /// and everything in it was passed on.
    slow: HashMap<PeerId, mpsc::Sender<Message>>,
    /// True once the socket has closed itself.
    closed: bool,
}

impl Listener {
    /// Opens a socket that listens nowhere yet.
    fn new(max_message_size: usize) -> Self {
        let socket = limits::server_socket(max_message_size);
        let incoming =
            Incoming { socket: socket.clone(), monitor: socket.monitor(), first: First::Events };
        Self {
            files: Vec::new(),
            bound: Vec::new(),
            socket,
            incoming: PollAdapter::Idle(incoming),
            slow: HashMap::new(),
            closed: false,
        }
    }
}

/// The messages and the connection events that a socket receives.
struct Incoming {
    socket: Socket,
    monitor: MonitorStream,
    first: First,
}

/// The kind of item that comes first when both kinds are ready.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    /// For a server, because the engine keeps a bounded number of events, and receiving messages
    /// causes more.
    Events,
    /// For a client, because replies that arrived before the connection was lost still count.
    Messages,
}

/// The next item of an [`Incoming`].
#[allow(clippy::large_enum_variant)] // An item is handled at once, and never stored.
enum Raw {
    Message(Result<Message, Error>),
    Event(Result<MonitorEvent, MonitorRecvError>),
}

impl Incoming {
    /// Returns an item that is ready. `None` if there is none.
    fn try_next(&mut self) -> Option<Raw> {
        match self.first {
            First::Events => self.try_event().or_else(|| self.try_message()),
            First::Messages => self.try_message().or_else(|| self.try_event()),
        }
    }

    fn try_event(&mut self) -> Option<Raw> {
        Some(Raw::Event(match self.monitor.try_recv() {
            Ok(event) => Ok(event),
            Err(MonitorTryRecvError::Lagged(events)) => Err(MonitorRecvError::Lagged(events)),
            Err(MonitorTryRecvError::Closed) => Err(MonitorRecvError::Closed),
            Err(_) => return None,
        }))
    }

    fn try_message(&self) -> Option<Raw> {
        match self.socket.try_recv() {
            Err(Error::WouldBlock) => None,
            message => Some(Raw::Message(message)),
        }
    }

    /// Waits for an item. [`try_next`](Self::try_next) is the fast path before it.
    async fn next(mut self) -> (Self, Raw) {
        let raw = match self.first {
            First::Events => tokio::select! {
                biased;
                event = self.monitor.recv() => Raw::Event(event),
                message = self.socket.recv() => Raw::Message(message),
            },
            First::Messages => tokio::select! {
                biased;
                message = self.socket.recv() => Raw::Message(message),
                event = self.monitor.recv() => Raw::Event(event),
            },
        };
        (self, raw)
    }
}

impl PollAdapter<Incoming, Raw> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Raw> {
        match self.idle().and_then(Incoming::try_next) {
            Some(raw) => Poll::Ready(raw),
            None => self.poll(Incoming::next, cx),
        }
    }
}

impl transport::Listener for Listener {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        while !self.closed {
            match ready!(self.incoming.poll_next(cx)) {
                Raw::Event(Ok(event)) => {
                    if let Some(peer) = lost_peer(event) {
                        self.slow.remove(&peer);
                        return Poll::Ready(Event::PeerGone(peer));
                    }
                }
                // Events were lost, so that it is unknown which peers have disconnected. Their
                // requests run to the end.
                Raw::Event(Err(MonitorRecvError::Lagged(events))) => {
                    tracing::warn!(events, "peers came and went faster than they were looked at");
                    self.slow.clear();
                }
                Raw::Message(Ok(message)) => {
                    if let Some(event) = zmtp::split(message.iter().collect()) {
                        return Poll::Ready(event);
                    }
                }
                // The socket closes itself only after a failure in the engine.
                Raw::Event(Err(_)) | Raw::Message(Err(_)) => {
                    self.closed = true;
                    tracing::error!(
                        "the ZeroMQ engine has closed the server's socket: nothing more will be \
                         received"
                    );
                }
            }
        }
        Poll::Pending
    }

    fn send(&mut self, reply_to: ReplyTo, body: Bytes, lease: Lease) -> bool {
        let peer = reply_to.peer().clone();
        let message = Message::multipart(zmtp::frames_to(reply_to, body, lease));
        if let Some(queue) = self.slow.get(&peer) {
            return queue.try_send(message).is_ok();
        }
        match self.socket.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Full(message)) => {
                let (queue, waiting) = mpsc::channel(REPLIES);
                tokio::spawn(pass_on(waiting, self.socket.clone()));
                let queued = queue.try_send(message).is_ok();
                self.slow.insert(peer, queue);
                queued
            }
            Err(_) => false,
        }
    }

    fn stop_accepting(&mut self) {
        self.files.clear();
        let (socket, bound) = (self.socket.clone(), std::mem::take(&mut self.bound));
        // The task always ends: the engine answers, or reports that its own task has ended.
        tokio::spawn(async move {
            for endpoint in bound {
                // An error means that it is not bound any more, which serves as well.
                let _ = socket.unbind(endpoint).await;
            }
        });
    }
}

/// Passes replies on to the engine as its queue has capacity for them. Ends when there will be no
/// more replies, or when the peer has disconnected.
async fn pass_on(mut waiting: mpsc::Receiver<Message>, socket: Socket) {
    while let Some(message) = waiting.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Returns the peer that an event reports as lost.
fn lost_peer(event: MonitorEvent) -> Option<PeerId> {
    match event {
        // Another connection has the identity now, and replies to the identity are sent there.
        MonitorEvent::Disconnected { reason: DisconnectReason::Handover, .. } => None,
        MonitorEvent::Disconnected {
            peer: PeerInfo { peer_identity, connection_id, .. }, ..
        } => {
            // For a peer without an identity, the engine makes one from the number of its
            // connection.
            let name = peer_identity.unwrap_or_else(|| generated_identity(connection_id));
            Some(PeerId::new(name))
        }
        _ => None,
    }
}

/// Opens a DEALER socket, and waits for its handshake. The server chooses the identity of the
/// socket: a fixed identity could displace another client.
pub(super) async fn connect(
    address: &Address,
    max_message_size: usize,
    timeout: Duration,
) -> Result<Link, TransportError> {
    let socket = limits::client_socket(max_message_size, timeout);
    let mut monitor = socket.monitor();
    socket.connect(endpoint(address)).await.map_err(cause)?;
    let mut reached = false;
    // The engine's own timeout covers the handshake. This one also covers the connection.
    let Ok(up) = time::timeout(timeout, is_up(&mut monitor, &mut reached)).await else {
        return Err("the address was not reached in time".into());
    };
    match up {
        Ok(()) => {
            let sender = LinkSender(PollAdapter::Idle(socket.clone()));
            let incoming = Incoming { socket, monitor, first: First::Messages };
            Ok(Link::to_peer(sender, LinkReceiver(PollAdapter::Idle(incoming))))
        }
        Err(reason) if reached => Err(format!("{}: {reason}", explain::NOT_ZEROMQ).into()),
        Err(reason) => {
            Err(explain::reach(address).await.err().map_or_else(|| reason.into(), Into::into))
        }
    }
}

/// Waits until the handshake has succeeded, or returns the reason why it has not. Sets `reached` if
/// a peer has accepted the connection.
async fn is_up(monitor: &mut MonitorStream, reached: &mut bool) -> Result<(), String> {
    loop {
        match monitor.recv().await {
            Ok(MonitorEvent::Connected { .. }) => *reached = true,
            Ok(MonitorEvent::HandshakeSucceeded { .. }) => return Ok(()),
            Ok(MonitorEvent::HandshakeFailed { reason, .. }) => return Err(reason),
            Ok(MonitorEvent::ConnectDelayed { .. }) => {
                return Err("it closed the connection".to_owned());
            }
            // There are too few events for one to be lost.
            Ok(_) | Err(MonitorRecvError::Lagged(_)) => {}
            Err(closed) => return Err(closed.to_string()),
        }
    }
}

struct LinkSender(PollAdapter<Socket, Result<(), Error>>);

impl transport::LinkSender for LinkSender {
    fn poll_send(
        &mut self,
        body: &mut Option<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TransportError>> {
        let mut message = None;
        if let Some(socket) = self.0.idle() {
            let body = body.take().expect("the first poll has a body");
            match socket.try_send(Message::multipart([Bytes::new(), body])) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(TrySendError::Full(full)) => message = Some(full),
                Err(TrySendError::Error(error)) => return Poll::Ready(Err(cause(error))),
                Err(_) => return Poll::Ready(Err(cause(Error::Closed))),
            }
        }
        let begin = |socket| send(socket, message.expect("the queue was full"));
        self.0.poll(begin, cx).map_err(cause)
    }
}

async fn send(socket: Socket, message: Message) -> (Socket, Result<(), Error>) {
    let sent = socket.send(message).await;
    (socket, sent)
}

struct LinkReceiver(PollAdapter<Incoming, Raw>);

impl transport::LinkReceiver for LinkReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<LinkEvent, TransportError>> {
        loop {
            match ready!(self.0.poll_next(cx)) {
                Raw::Message(message) => {
                    // The frames in front of the body are the envelope that this side has sent.
                    let frames: VecDeque<_> = message.map_err(cause)?.iter().collect();
                    if let Some(body) = frames.into_iter().next_back() {
                        return Poll::Ready(Ok(LinkEvent::Body(body)));
                    }
                }
                Raw::Event(Ok(MonitorEvent::Disconnected {
                    reason: DisconnectReason::Error(reason),
                    ..
                })) => return Poll::Ready(Err(reason.into())),
                Raw::Event(Ok(MonitorEvent::Disconnected { .. })) => {
                    return Poll::Ready(Err("the server closed it".into()));
                }
                // There are too few events for one to be lost.
                Raw::Event(Ok(_) | Err(MonitorRecvError::Lagged(_))) => {}
                Raw::Event(Err(closed)) => return Poll::Ready(Err(closed.into())),
            }
        }
    }
}
