//! The transport for tcp and ipc on the `omq-tokio` crate. No file outside this folder names
//! that crate.
//!
//! The engine bounds what untrusted peers can do: this file sets its limits for sizes, handshakes
//! and queues. The engine is configured never to reconnect, because requests of a lost connection
//! may have been sent elsewhere since.
//!
//! Two tasks are left to this file: the engine reports lost peers only through its monitor, and it
//! does not report why a host cannot be reached.

pub(super) mod binding;
#[cfg(feature = "curve")]
mod curve;
mod limits;
pub(super) mod link;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use omq_tokio::{
    DisconnectReason, Endpoint, Error, Identity, IpcPath, Message, MonitorEvent, MonitorRecvError,
    MonitorStream, MonitorTryRecvError, PeerIdent, PeerInfo, Socket, SocketType, TrySendError,
    endpoint::Host, message::generated_identity,
};
use tokio::sync::mpsc;

use crate::{
    endpoint::IpcAddress,
    peer::{PeerId, Verified},
    transport::{
        self, Address, Event, ReplyTo, TransportConfig, TransportError, poll_adapter::PollAdapter,
        socket_file::SocketFile, zmtp,
    },
    util::{doublings::Doublings, fair_share::Lease},
};

#[cfg(feature = "curve")]
use self::curve::Guard;
#[cfg(feature = "curve")]
use crate::transport::Curve;

/// The number of further replies that may wait for a peer that reads more slowly than it sends
/// requests. Replies beyond that are dropped. By default, a client of this library has no more
/// calls in flight than that, and so gets all replies.
const REPLIES: usize = 65_536;

/// The beginning of the engine's reason for a connection that was closed.
const CLOSED: &str = "io error";
/// The part of the engine's reason for a key that the access list refuses.
const REFUSED_KEY: &str = "authentication failed";

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
    /// The connections that failed in their handshake.
    failed: Doublings,
    /// The connections by their keys, if the peers have keys.
    #[cfg(feature = "curve")]
    guard: Option<Guard>,
    /// The peers whose keys have been removed from the list, and which were not reported as lost
    /// yet.
    #[cfg(feature = "curve")]
    revoked: Vec<PeerId>,
}

impl Listener {
    /// Opens a socket that listens nowhere yet.
    fn new(config: &TransportConfig) -> Self {
        let options = limits::server_options(config.max_message_size);
        #[cfg(feature = "curve")]
        let (options, guard) = match &config.curve {
            Some(Curve::Server { secret, access }) => {
                (curve::server_options(options, secret, access), Some(Guard::new(access)))
            }
            _ => (options, None),
        };
        let socket = limits::socket(SocketType::Router, options);
        let incoming =
            Incoming { socket: socket.clone(), monitor: socket.monitor(), first: First::Events };
        Self {
            files: Vec::new(),
            bound: Vec::new(),
            socket,
            incoming: PollAdapter::Idle(incoming),
            slow: HashMap::new(),
            closed: false,
            failed: Doublings::default(),
            #[cfg(feature = "curve")]
            guard,
            #[cfg(feature = "curve")]
            revoked: Vec::new(),
        }
    }

    /// Handles a connection event. Returns the peer that it reports as lost.
    fn handle_event(&mut self, event: MonitorEvent) -> Option<PeerId> {
        match event {
            #[cfg(feature = "curve")]
            MonitorEvent::HandshakeSucceeded { peer, .. } => {
                let verified = self.verified(&peer);
                if let Some(guard) = &mut self.guard {
                    guard.remember(peer.connection_id, peer_id(peer, verified));
                }
                None
            }
            MonitorEvent::HandshakeFailed { peer_ident, reason, .. } => {
                self.log_failed_handshake(&peer_ident, &reason);
                None
            }
            MonitorEvent::Disconnected { reason, peer, .. } => {
                let verified = self.verified(&peer);
                #[cfg(feature = "curve")]
                if let Some(guard) = &mut self.guard {
                    guard.forget(peer.connection_id);
                }
                // Another connection has the identity now, and replies to it are sent there. With
                // a key, it is another peer nevertheless.
                if reason == DisconnectReason::Handover && verified.is_none() {
                    return None;
                }
                Some(peer_id(peer, verified))
            }
            _ => None,
        }
    }

    /// Logs a connection that failed before it could carry messages. Anybody can cause that, so that
    /// few of them are warnings.
    fn log_failed_handshake(&self, peer: &PeerIdent, reason: &str) {
        // The list says itself which keys it refuses. Whoever closes a connection, as some health
        // checks do, wants nothing.
        let is_said = reason.contains(REFUSED_KEY) || reason.starts_with(CLOSED);
        if let Some(failed) = self.failed.add((!is_said).into()) {
            tracing::warn!(%peer, reason, failed, "a connection failed in its handshake");
        } else {
            tracing::debug!(%peer, reason, "a connection failed in its handshake");
        }
    }

    /// Returns what the engine has verified about a peer, and disconnects it if its key was removed
    /// from the list meanwhile.
    #[cfg(feature = "curve")]
    fn verified(&mut self, peer: &PeerInfo) -> Option<Arc<Verified>> {
        let guard = self.guard.as_mut()?;
        let verified = guard.verified(peer)?;
        if !guard.admits(&verified) {
            self.disconnect(verified.connection);
        }
        Some(verified)
    }

    #[cfg(not(feature = "curve"))]
    #[allow(clippy::unused_self)] // Nothing is verified.
    fn verified(&mut self, _: &PeerInfo) -> Option<Arc<Verified>> {
        None
    }

    /// Closes a connection. The task ends when the engine has answered.
    #[cfg(feature = "curve")]
    fn disconnect(&self, connection: u64) {
        let socket = self.socket.clone();
        // An error means that it has ended already, which serves as well.
        tokio::spawn(async move { drop(socket.disconnect_peer(connection).await) });
    }

    /// Closes the connections whose keys have been removed from the list. Returns a peer of such a
    /// connection, which is lost from now on: closing takes a moment.
    #[cfg(feature = "curve")]
    fn disconnect_revoked(&mut self, cx: &mut Context<'_>) -> Option<PeerId> {
        let revoked = self.guard.as_mut().map(|guard| guard.poll_revoked(cx));
        for peer in revoked.into_iter().flatten() {
            if let Some(verified) = peer.verification() {
                self.disconnect(verified.connection);
            }
            self.revoked.push(peer);
        }
        self.revoked.pop()
    }
}

/// Makes the identity of the peer of a connection. If it has chosen none, the engine has made one
/// from the number of the connection.
fn peer_id(peer: PeerInfo, verified: Option<Arc<Verified>>) -> PeerId {
    let name = peer.peer_identity.unwrap_or_else(|| generated_identity(peer.connection_id));
    PeerId::new(name, verified)
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
        #[cfg(feature = "curve")]
        if let Some(peer) = self.disconnect_revoked(cx) {
            self.slow.remove(&peer);
            return Poll::Ready(Event::PeerGone(peer));
        }
        while !self.closed {
            match ready!(self.incoming.poll_next(cx)) {
                Raw::Event(Ok(event)) => {
                    if let Some(peer) = self.handle_event(event) {
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
                    let sender = message.sender_identity().map(Identity::peer_info);
                    let verified = sender.and_then(|sender| self.verified(sender));
                    #[cfg(feature = "curve")]
                    if self.guard.is_some() && verified.is_none() {
                        continue;
                    }
                    if let Some(event) = zmtp::split(message.iter().collect(), verified) {
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
