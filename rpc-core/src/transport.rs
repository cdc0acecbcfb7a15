//! The seam between the protocol and its carriers: bodies from and to peers.
//!
//! A server holds [`Listener`]s. Each connection of a client is a [`LinkSender`] and a
//! [`LinkReceiver`]. Nothing above the seam knows which carrier it uses: [`open`] chooses one by the
//! endpoint and the engine, and each carrier is one file.

mod explain;
mod inproc;
#[cfg(feature = "omq")]
mod omq;
pub(crate) mod open;
mod poll_adapter;
mod socket_file;
mod zeromq;
mod zmtp;

use std::{
    collections::VecDeque,
    error::Error as StdError,
    future::{Future, poll_fn},
    hash::{Hash, Hasher},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use crate::{endpoint::Endpoint, engine::Engine, peer::PeerId, util::fair_share::Lease};

/// A failure in the words of the engine or of the operating system.
pub(crate) type TransportError = Box<dyn StdError + Send + Sync>;

/// The options of every carrier.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransportConfig {
    pub(crate) engine: Engine,
    /// The longest body that is of use, in bytes. A carrier that can refuses much longer bodies before
    /// it reads them.
    pub(crate) max_message_size: usize,
}

/// The return address of a request, opaque above the seam.
///
/// Two are equal if they lead to the same client by the same way. A clone is cheap: all requests of a
/// batch share one. A carrier may put more into it than the way back (a delivery that is to be
/// acknowledged), which then lives as long as the request and takes no part in comparisons.
#[derive(Debug, Clone)]
pub(crate) struct ReplyTo(Arc<Origin>);

#[derive(Debug)]
struct Origin {
    peer: PeerId,
    /// The envelope of RFC 28, from the identity of the peer on. Empty for a carrier without frames.
    frames: VecDeque<Bytes>,
}

impl ReplyTo {
    fn new(peer: PeerId, frames: VecDeque<Bytes>) -> Self {
        Self(Arc::new(Origin { peer, frames }))
    }

    /// Makes the address of a peer that needs no frames.
    pub(crate) fn direct(peer: PeerId) -> Self {
        Self::new(peer, VecDeque::new())
    }

    #[cfg(test)]
    pub(crate) fn of(frames: &[&'static str]) -> Self {
        zmtp::reply_to(frames.iter().map(|frame| Bytes::from_static(frame.as_bytes())).collect())
    }

    /// The peer that the transport received the request from.
    pub(crate) fn peer(&self) -> &PeerId {
        &self.0.peer
    }

    /// Copies the address, so that it does not keep the buffers alive in which it was received.
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
    /// Frames arrived that contain no body, or more than one.
    Malformed(ReplyTo, &'static str),
    /// A peer has disconnected. Replies to it that were not sent yet are lost.
    PeerGone(PeerId),
}

/// The server's side of a carrier. One listener may stand for several endpoints.
pub(crate) trait Listener: Send {
    /// Polls for the next event.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Event>;

    /// Queues a body for a client, without waiting. The carrier drops `lease` once the peer has taken
    /// the body, or has gone. Returns false, and drops the body, if the peer has gone or its queue is
    /// full.
    fn send(&mut self, reply_to: ReplyTo, body: Bytes, lease: Lease) -> bool;

    /// Stops accepting new peers. Connected peers stay.
    fn stop_accepting(&mut self);
}

impl dyn Listener {
    /// Waits for the next event. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Event {
        poll_fn(|cx| self.poll_recv(cx)).await
    }
}

/// The sending half of a client's connection.
pub(crate) trait LinkSender: Send {
    /// Takes `body` with the first poll, and is ready when the body is in the carrier's queue, which
    /// may be full for a while. It must then be polled until it is ready. An error means that the link
    /// has ended.
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
    /// To be awaited to its end: the next send would otherwise finish this one.
    pub(crate) async fn send(&mut self, body: Bytes) -> Result<(), TransportError> {
        let mut body = Some(body);
        poll_fn(|cx| self.poll_send(&mut body, cx)).await
    }
}

/// An event of a client's connection.
///
/// A carrier that learns later what became of a message it was given (confirmed, refused, returned)
/// will report that as a further event.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A body arrived: a message, or a batch.
    Body(Bytes),
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

/// A client's connection. It is never reconnected: a link that has ended is replaced.
pub(crate) type Link = (Box<dyn LinkSender>, Box<dyn LinkReceiver>);

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A listener of a ZeroMQ engine that is being bound. One socket stands for all endpoints.
trait Binding: Send {
    /// Listens on one more endpoint, and returns the address that it got.
    fn bind<'a>(
        &'a mut self,
        endpoint: &'a Endpoint,
    ) -> BoxFuture<'a, Result<String, TransportError>>;

    /// Begins to accept messages.
    fn listen(self: Box<Self>) -> Box<dyn Listener>;
}
