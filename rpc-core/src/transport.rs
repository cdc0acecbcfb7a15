//! The interface between the protocol and the transports, which carry bodies from and to peers.
//!
//! A server holds [`Listener`]s. Each connection of a client is a [`LinkSender`] and a
//! [`LinkReceiver`]. [`open`] chooses the transport by the endpoint and the engine. The code above
//! this interface does not know which transport it uses, and each transport is one file.

#[cfg(feature = "amqp")]
mod amqp;
mod explain;
mod inproc;
mod mechanism;
#[cfg(feature = "omq")]
mod omq;
pub(crate) mod open;
mod poll_adapter;
mod race;
mod resolve;
mod socket_file;
mod tcp;
mod zeromq;
mod zmtp;

use std::{
    any::Any,
    collections::VecDeque,
    error::Error as StdError,
    fmt,
    future::{Future, poll_fn},
    hash::{Hash, Hasher},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    endpoint::IpcAddress, engine::Engine, peer::PeerId, protocol::control::PeerInfo,
    util::fair_share::Lease,
};

#[cfg(feature = "curve")]
use crate::{
    access::Access,
    keys::{PublicKey, SecretKey},
};

/// A failure, as the engine or the operating system describes it.
pub(crate) type TransportError = Box<dyn StdError + Send + Sync>;

/// The failure of a connection to a server that encrypts in another way, or with another key. Trying
/// again soon is of little use. Nothing proves that the server has said so, and that it will say so
/// for ever.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Mismatch(String);

/// The options of every transport.
#[derive(Debug, Clone)]
pub(crate) struct TransportConfig {
    pub(crate) engine: Engine,
    /// The longest body that this side accepts, in bytes. A transport refuses much longer bodies
    /// before it reads them, if it can.
    pub(crate) max_message_size: usize,
    /// The keys for all connections over sockets. Without them, nothing is encrypted.
    #[cfg(feature = "curve")]
    pub(crate) curve: Option<Curve>,
}

impl TransportConfig {
    /// Returns true if connections over sockets are encrypted.
    #[cfg(feature = "curve")]
    pub(crate) fn encrypts(&self) -> bool {
        self.curve.is_some()
    }

    #[cfg(not(feature = "curve"))]
    #[allow(clippy::unused_self)] // There are no keys.
    pub(crate) fn encrypts(&self) -> bool {
        false
    }
}

/// The keys of one side, for the encryption of CURVE.
#[cfg(feature = "curve")]
#[derive(Debug, Clone)]
pub(crate) enum Curve {
    /// A server with its key, and the keys of the clients that it admits.
    Server { secret: SecretKey, access: Access },
    /// A client with its key, and the keys of the servers that it trusts.
    Client { secret: SecretKey, servers: Arc<[PublicKey]> },
}

/// The work that a server takes on, for a carrier that hands out requests accordingly.
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(not(feature = "amqp"), allow(dead_code))] // No other carrier stores messages.
pub(crate) struct Workload {
    /// The largest number of requests at a time.
    pub(crate) max_requests: usize,
    /// The longest time that a function states for its calls.
    pub(crate) longest_call: Duration,
}

/// The return address of a request. Its content is opaque above this interface.
///
/// Two addresses are equal if they lead to the same client by the same route. A clone is cheap: all
/// requests of a batch share one address. The address of a request also holds its [`Delivery`], if
/// there is one, which takes no part in comparisons.
#[derive(Debug, Clone)]
pub(crate) struct ReplyTo(Arc<Origin>);

#[derive(Debug)]
struct Origin {
    peer: PeerId,
    /// The envelope of RFC 28, from the identity of the peer on. Empty for a transport without
    /// frames.
    frames: VecDeque<Bytes>,
    delivery: Option<Box<dyn Delivery>>,
}

/// A body that a carrier stores until this side has settled it. It is settled when its last address
/// is dropped: when every request in it was answered, and every notification has ended.
pub(crate) trait Delivery: Any + fmt::Debug + Send + Sync {
    /// Returns the time for which the body has waited since it was sent.
    fn waited(&self) -> Duration;

    /// Returns true if the sender has said where a reply goes.
    fn is_answerable(&self) -> bool;

    /// Notes that the body is no message that this side understands. It is then set aside, where
    /// somebody can look at it.
    fn reject(&self);
}

impl ReplyTo {
    fn new(peer: PeerId, frames: VecDeque<Bytes>) -> Self {
        Self(Arc::new(Origin { peer, frames, delivery: None }))
    }

    /// Makes the address of a peer whose request is part of a delivery.
    #[cfg(feature = "amqp")]
    fn delivered(peer: PeerId, delivery: impl Delivery) -> Self {
        let (frames, delivery) = (VecDeque::new(), Some(Box::new(delivery) as Box<_>));
        Self(Arc::new(Origin { peer, frames, delivery }))
    }

    /// Returns the delivery that the request is part of, if a carrier stores it.
    pub(crate) fn delivery(&self) -> Option<&dyn Delivery> {
        self.0.delivery.as_deref()
    }

    /// Notes that the body is no message that this side understands. See [`Delivery::reject`].
    pub(crate) fn reject(&self) {
        if let Some(delivery) = &self.0.delivery {
            delivery.reject();
        }
    }

    /// Makes the address of a peer that needs no frames.
    pub(crate) fn direct(peer: PeerId) -> Self {
        Self::new(peer, VecDeque::new())
    }

    #[cfg(test)]
    pub(crate) fn of(frames: &[&'static str]) -> Self {
        zmtp::address(frames.iter().map(|frame| Bytes::from_static(frame.as_bytes())).collect())
    }

    /// Returns the peer from which the transport received the request.
    pub(crate) fn peer(&self) -> &PeerId {
        &self.0.peer
    }

    /// Returns true if the peer itself has sent the request to this server. It comes through no
    /// proxy and no broker, which may pass on the next message to another server.
    pub(crate) fn is_direct(&self) -> bool {
        self.0.delivery.is_none() && self.0.frames.iter().skip(1).all(Bytes::is_empty)
    }

    /// Copies the address, so that it does not keep alive the buffers in which it was received.
    pub(crate) fn detached(&self) -> Self {
        let frames = self.0.frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
        Self::new(self.0.peer.detached(), frames)
    }
}

impl PartialEq for ReplyTo {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.peer == other.0.peer && self.0.frames == other.0.frames)
    }
}

impl Eq for ReplyTo {}

impl Hash for ReplyTo {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.peer.hash(state);
        self.0.frames.hash(state);
    }
}

/// An event of a listener.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A body arrived: a message, or a batch.
    Body(ReplyTo, Bytes),
    /// Frames arrived that contain no body, or more than one. The text is the reason for the
    /// answer.
    Malformed(ReplyTo, &'static str),
    /// A peer has disconnected. Replies to it that were not sent yet are lost.
    PeerGone(PeerId),
}

/// The server's side of a transport. One listener may stand for several endpoints.
pub(crate) trait Listener: Send {
    /// Polls for the next event.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Event>;

    /// Queues a body for a client, without waiting. The transport drops `lease` once the peer has
    /// taken the body or has disconnected. Returns false, and drops the body, if the peer has
    /// disconnected or its queue is full.
    fn send(&mut self, reply_to: ReplyTo, body: Bytes, lease: Lease) -> bool;

    /// Stops accepting new peers. Connected peers stay. A carrier that stores messages delivers no
    /// more of them.
    fn stop_accepting(&mut self);

    /// Waits until everything that was sent is stored, at a carrier that stores messages.
    fn poll_settled(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Gives the requests in flight back to a carrier that stores messages, for other servers.
    /// Returns false if the carrier does not. Their callers must then be told.
    fn give_back(&mut self) -> bool {
        false
    }
}

impl dyn Listener {
    /// Waits for the next event. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Event {
        poll_fn(|cx| self.poll_recv(cx)).await
    }
}

/// The label of a body for a carrier that stores messages.
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(not(feature = "amqp"), allow(dead_code))] // No other carrier stores messages.
pub(crate) struct Posting {
    /// The number by which the fate of the body is reported.
    pub(crate) tag: u64,
    /// The time at which the body is dropped if no server has taken it.
    pub(crate) deadline: Option<Instant>,
}

/// The sending half of a client's connection.
pub(crate) trait LinkSender: Send {
    /// Notes what a carrier that stores messages is to know of the next body. Others ignore it.
    fn label(&mut self, _posting: Posting) {}

    /// Queues a body. The first poll takes `body`. The result is ready once the body is in the
    /// transport's queue, which may be full for a while. A send that is pending must be polled
    /// until it is ready. An error means that the link has ended.
    fn poll_send(
        &mut self,
        body: &mut Option<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TransportError>>;
}

impl dyn LinkSender {
    /// Queues a body, and waits while the queue is full.
    ///
    /// # Cancellation
    /// Not cancel-safe: if the future is dropped, the next send finishes this one and loses its own
    /// body.
    pub(crate) async fn send(&mut self, body: Bytes) -> Result<(), TransportError> {
        let mut body = Some(body);
        poll_fn(|cx| self.poll_send(&mut body, cx)).await
    }
}

/// An event of a client's connection. Only a carrier that stores messages has others than
/// [`Body`](Self::Body).
#[derive(Debug)]
#[cfg_attr(not(feature = "amqp"), allow(dead_code))] // No other carrier stores messages.
pub(crate) enum LinkEvent {
    /// A body arrived: a message, or a batch.
    Body(Bytes),
    /// The carrier stores messages, and has news of them. It is in a box, because it is rare.
    Carrier(Box<CarrierEvent>),
}

/// An event of a carrier that stores messages.
#[derive(Debug)]
#[cfg_attr(not(feature = "amqp"), allow(dead_code))] // No other carrier stores messages.
pub(crate) enum CarrierEvent {
    /// The fate of the body that was sent with this [tag](Posting::tag) is known.
    Settled { tag: u64, fate: Fate },
    /// The carrier takes no messages for now, for the reason given. `None` if it takes them again.
    Blocked(Option<String>),
}

/// The fate of a body at a carrier that stores messages.
#[derive(Debug)]
#[cfg_attr(not(feature = "amqp"), allow(dead_code))] // No other carrier stores messages.
pub(crate) enum Fate {
    /// It is stored, and a server will get it, even if this side goes.
    Stored,
    /// It was not sent, because its deadline has passed.
    Expired,
    /// It was refused, because the carrier has too many already.
    Refused(String),
    /// It was returned, because no server has ever been there.
    Returned(String),
}

/// The receiving half of a client's connection.
pub(crate) trait LinkReceiver: Send {
    /// Polls for the next event. An error means that the link has ended.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<LinkEvent, TransportError>>;
}

impl dyn LinkReceiver {
    /// Waits for the next event. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Result<LinkEvent, TransportError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }
}

/// A client's connection. A link that has ended is never reconnected, but replaced by a new one.
pub(crate) struct Link {
    pub(crate) sender: Box<dyn LinkSender>,
    pub(crate) receiver: Box<dyn LinkReceiver>,
    /// The facts about the peer that hold without asking it. `None` for a peer that is to be asked
    /// by a hello.
    pub(crate) peer: Option<PeerInfo>,
}

impl Link {
    /// Makes a link to a peer that is to be asked by a hello.
    fn to_peer(sender: impl LinkSender + 'static, receiver: impl LinkReceiver + 'static) -> Self {
        Self { sender: Box::new(sender), receiver: Box::new(receiver), peer: None }
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An address that a ZeroMQ engine connects to. The host of an endpoint may have several.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Tcp(SocketAddr),
    Ipc(IpcAddress),
}

/// A listener of a ZeroMQ engine that is being bound. One socket stands for all endpoints.
trait Binding: Send {
    /// Listens on the addresses of one host, which have the same port, as
    /// [`tcp::listen`] does. Returns the port that they got.
    fn bind_tcp<'a>(
        &'a mut self,
        addresses: &'a [SocketAddr],
    ) -> BoxFuture<'a, Result<u16, TransportError>>;

    /// Listens on a Unix domain socket, whose file gets these permission bits.
    fn bind_ipc<'a>(
        &'a mut self,
        address: &'a IpcAddress,
        mode: u32,
    ) -> BoxFuture<'a, Result<(), TransportError>>;

    /// Begins to accept messages.
    fn listen(self: Box<Self>) -> Box<dyn Listener>;
}
