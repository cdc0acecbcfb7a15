//! The seam between the protocol and what carries it: frames from and to peers, and peers that go.
//!
//! Each engine is one file below, and only that file names it. A server holds [`Listener`]s, a
//! client's connection holds a [`LinkSender`] and a [`LinkReceiver`].

mod explain;
mod inproc;
#[cfg(feature = "omq")]
mod omq;
mod socket_file;
mod zeromq;

use std::{collections::VecDeque, error::Error as StdError, sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::time;

use crate::{endpoint::Endpoint, engine::Engine, shares::Part};

/// What went wrong, in the engine's words.
pub(crate) type TransportError = Box<dyn StdError + Send + Sync>;

/// How tcp and ipc are carried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carrier {
    pub(crate) engine: Engine,
    /// The longest body that is of any use. An engine that can refuses much longer ones before they
    /// are read.
    pub(crate) max_message_size: usize,
}

/// The frames that a request came behind, to be sent back in front of its response, as RFC 28 asks.
/// The first is the peer's identity. Cheap to clone: a batch has one for all its requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Envelope(Arc<VecDeque<Bytes>>);

impl Envelope {
    pub(crate) fn new(peer: Bytes) -> Self {
        Self::from(VecDeque::from([peer]))
    }

    /// A copy that does not keep the buffers that the frames came in.
    pub(crate) fn detached(&self) -> Self {
        Self::from(
            self.0.iter().map(|frame| Bytes::copy_from_slice(frame)).collect::<VecDeque<_>>(),
        )
    }

    #[cfg(test)]
    pub(crate) fn of(frames: &[&'static str]) -> Self {
        Self::from(
            frames
                .iter()
                .map(|frame| Bytes::from_static(frame.as_bytes()))
                .collect::<VecDeque<_>>(),
        )
    }

    /// Whoever the transport received it from: a client, or the proxy that stands in front of it.
    pub(crate) fn peer(&self) -> &Bytes {
        &self.0[0]
    }

    /// Puts `body` behind the envelope, ready to be sent.
    fn with(self, body: Bytes) -> VecDeque<Bytes> {
        let mut frames = Arc::unwrap_or_clone(self.0);
        frames.push_back(body);
        frames
    }
}

impl From<VecDeque<Bytes>> for Envelope {
    fn from(frames: VecDeque<Bytes>) -> Self {
        Self(Arc::new(frames))
    }
}

/// What came from a peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A message, its body behind its envelope.
    Message(Envelope, Bytes),
    /// Frames that have no body, or more than one.
    Malformed(Envelope, &'static str),
    /// The peer has gone, and so have the replies that were not sent yet.
    PeerGone(Bytes),
}

/// The longest envelope that is taken, in bytes. An identity has at most 255 and mostly 5, so that
/// this is enough for many proxies. It is kept as long as its call lasts, and after a hello as long
/// as the connection.
const MAX_ENVELOPE: usize = 1_024;

/// Splits what a ROUTER received. `None` if there is nothing in it to answer, as from a peer that
/// says it is there, or nothing that it could be answered behind.
fn open(frames: VecDeque<Bytes>) -> Option<Event> {
    let event = split(frames)?;
    let (Event::Message(envelope, _) | Event::Malformed(envelope, _)) = &event else {
        return Some(event);
    };
    let size: usize = envelope.0.iter().map(Bytes::len).sum();
    if size > MAX_ENVELOPE {
        tracing::debug!(size, MAX_ENVELOPE, "ignored a message whose envelope is too long");
        return None;
    }
    Some(event)
}

fn split(mut frames: VecDeque<Bytes>) -> Option<Event> {
    let delimiter = frames.iter().skip(1).position(Bytes::is_empty).map(|position| position + 1);
    let bodies = match delimiter {
        Some(delimiter) => frames.len() - delimiter - 1,
        None => usize::from(frames.len() > 1),
    };
    match (bodies, delimiter) {
        (1, _) => {
            let body = frames.pop_back()?;
            Some(Event::Message(Envelope::from(frames), body))
        }
        (0, Some(delimiter)) if delimiter > 1 => {
            Some(Event::Malformed(Envelope::from(frames), "no body follows the empty frame"))
        }
        (0, _) => None,
        (_, delimiter) => {
            frames.truncate(delimiter? + 1);
            Some(Event::Malformed(
                Envelope::from(frames),
                "more than one frame follows the empty one",
            ))
        }
    }
}

/// The same bytes, which hold `part` until the last of them is dropped: for engines that drop a
/// message when they have written it.
fn with_part(body: Bytes, part: Part) -> Bytes {
    struct Held {
        body: Bytes,
        _part: Part,
    }
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.body
        }
    }
    Bytes::from_owner(Held { body, _part: part })
}

/// Where a server takes messages from. One listener may stand for several endpoints.
pub(crate) enum Listener {
    Zeromq(zeromq::Listener),
    #[cfg(feature = "omq")]
    Omq(omq::Listener),
    Inproc(inproc::Listener),
}

/// A listener for tcp and ipc that is being bound.
enum Binding {
    Zeromq(zeromq::Binding),
    #[cfg(feature = "omq")]
    Omq(omq::Binding),
}

impl Binding {
    fn new(carrier: Carrier) -> Self {
        match carrier.engine {
            Engine::Zeromq => Self::Zeromq(zeromq::Binding::new()),
            #[cfg(feature = "omq")]
            Engine::Omq => Self::Omq(omq::Binding::new(carrier.max_message_size)),
        }
    }

    async fn bind(&mut self, endpoint: &Endpoint) -> Result<String, TransportError> {
        match self {
            Self::Zeromq(binding) => binding.bind(endpoint).await,
            #[cfg(feature = "omq")]
            Self::Omq(binding) => binding.bind(endpoint).await,
        }
    }

    fn listen(self) -> Listener {
        match self {
            Self::Zeromq(binding) => Listener::Zeromq(binding.listen()),
            #[cfg(feature = "omq")]
            Self::Omq(binding) => Listener::Omq(binding.listen()),
        }
    }
}

impl Listener {
    /// Listens on all `endpoints`; tells with each listener where it really listens, in their
    /// order.
    pub(crate) async fn bind(
        endpoints: Vec<Endpoint>,
        carrier: Carrier,
    ) -> Result<(Vec<Self>, Vec<String>), (Endpoint, TransportError)> {
        let mut binding = None;
        let (mut listeners, mut bound) = (Vec::new(), Vec::new());
        for endpoint in endpoints {
            let listening = match &endpoint {
                Endpoint::Inproc(name) => inproc::Listener::bind(name).map(|listener| {
                    listeners.push(Self::Inproc(listener));
                    endpoint.to_string()
                }),
                _ => binding.get_or_insert_with(|| Binding::new(carrier)).bind(&endpoint).await,
            };
            bound.push(listening.map_err(|error| (endpoint, error))?);
        }
        listeners.extend(binding.map(Binding::listen));
        Ok((listeners, bound))
    }

    /// Waits for the next event. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Event {
        match self {
            Self::Zeromq(listener) => listener.recv().await,
            #[cfg(feature = "omq")]
            Self::Omq(listener) => listener.recv().await,
            Self::Inproc(listener) => listener.recv().await,
        }
    }

    /// Hands a message to the peer's queue, and lets go of `part` once the peer has taken it or has
    /// gone. It never waits: `false` if the peer has gone, or its queue is full; the message is
    /// dropped then.
    pub(crate) fn send(&mut self, envelope: Envelope, body: Bytes, part: Part) -> bool {
        match self {
            Self::Zeromq(listener) => listener.send(envelope, with_part(body, part)),
            #[cfg(feature = "omq")]
            Self::Omq(listener) => listener.send(envelope, with_part(body, part)),
            Self::Inproc(listener) => listener.send(&envelope, body, part),
        }
    }

    /// Takes no new peers from here on; those that are connected stay.
    pub(crate) fn stop_accepting(&mut self) {
        match self {
            Self::Zeromq(listener) => listener.stop_accepting(),
            #[cfg(feature = "omq")]
            Self::Omq(listener) => listener.stop_accepting(),
            Self::Inproc(listener) => listener.stop_accepting(),
        }
    }
}

/// Opens a connection, or fails by `by`. There is no reconnecting: a link that ended is replaced.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    carrier: Carrier,
    by: Instant,
) -> Result<(LinkSender, LinkReceiver), TransportError> {
    if let Endpoint::Inproc(name) = endpoint {
        let (sender, receiver) = time::timeout_at(by.into(), inproc::connect(name)).await??;
        return Ok((LinkSender::Inproc(sender), LinkReceiver::Inproc(receiver)));
    }
    let timeout = by.saturating_duration_since(Instant::now());
    let connecting = async {
        match carrier.engine {
            Engine::Zeromq => {
                let (sender, receiver) = zeromq::connect(endpoint, timeout).await?;
                Ok((LinkSender::Zeromq(sender), LinkReceiver::Zeromq(receiver)))
            }
            #[cfg(feature = "omq")]
            Engine::Omq => {
                let (sender, receiver) =
                    omq::connect(endpoint, carrier.max_message_size, timeout).await?;
                Ok((LinkSender::Omq(sender), LinkReceiver::Omq(receiver)))
            }
        }
    };
    tokio::select! {
        biased;
        link = connecting => link,
        // Less time than the engine has, because this says more.
        reason = explain::unreachable(endpoint, timeout * 3 / 4) => Err(reason),
    }
}

/// The sending half of a client's connection.
pub(crate) enum LinkSender {
    Zeromq(zeromq::LinkSender),
    #[cfg(feature = "omq")]
    Omq(omq::LinkSender),
    Inproc(inproc::LinkSender),
}

impl LinkSender {
    /// Hands a body to the transport; waits while its queue is full. An error means that the link
    /// has ended.
    pub(crate) async fn send(&mut self, body: Bytes) -> Result<(), TransportError> {
        match self {
            Self::Zeromq(sender) => sender.send(body).await,
            #[cfg(feature = "omq")]
            Self::Omq(sender) => sender.send(body).await,
            Self::Inproc(sender) => sender.send(body).await,
        }
    }
}

/// The receiving half of a client's connection.
pub(crate) enum LinkReceiver {
    Zeromq(zeromq::LinkReceiver),
    #[cfg(feature = "omq")]
    Omq(omq::LinkReceiver),
    Inproc(inproc::LinkReceiver),
}

impl LinkReceiver {
    /// Waits for the next body. Cancel-safe. An error means that the link has ended.
    pub(crate) async fn recv(&mut self) -> Result<Bytes, TransportError> {
        match self {
            Self::Zeromq(receiver) => receiver.recv().await,
            #[cfg(feature = "omq")]
            Self::Omq(receiver) => receiver.recv().await,
            Self::Inproc(receiver) => receiver.recv().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(frames: &[&'static str]) -> VecDeque<Bytes> {
        frames.iter().map(|frame| Bytes::from_static(frame.as_bytes())).collect()
    }

    #[test]
    fn the_envelope_ends_with_the_first_empty_frame() {
        for envelope in
            [vec!["id", ""], vec!["id", "1234", ""], vec!["proxy", "id", "1234", ""], vec!["id"]]
        {
            let mut all = envelope.clone();
            all.push("body");
            let Some(Event::Message(found, body)) = open(frames(&all)) else { panic!("{all:?}") };
            assert_eq!(found, Envelope::from(frames(&envelope)));
            assert_eq!(body, "body");
            assert_eq!(found.peer(), envelope[0]);
            assert_eq!(found.with(body), frames(&all));
        }
    }

    #[test]
    fn without_an_empty_frame_the_last_one_is_the_body() {
        let event = open(frames(&["id", "forwarded", "body"]));
        let envelope = Envelope::from(frames(&["id", "forwarded"]));
        assert_eq!(event, Some(Event::Message(envelope, Bytes::from_static(b"body"))));
    }

    #[test]
    fn a_probe_is_ignored() {
        assert_eq!(open(frames(&["id", ""])), None);
        assert_eq!(open(frames(&["id"])), None);
        assert_eq!(open(frames(&[])), None);
    }

    #[test]
    fn an_envelope_that_is_too_long_is_ignored() {
        let long = |len| frames(&["id", "x".repeat(len).leak(), "", "body"]);
        assert!(matches!(open(long(MAX_ENVELOPE - 2)), Some(Event::Message(..))));
        assert_eq!(open(long(MAX_ENVELOPE - 1)), None);
        let mut many = frames(&["id"]);
        many.extend(frames(&["y"; MAX_ENVELOPE]));
        many.extend(frames(&["", ""]));
        assert_eq!(open(many), None);
    }

    #[test]
    fn an_empty_body_is_a_body() {
        let event = open(frames(&["id", "", ""]));
        assert_eq!(event, Some(Event::Message(Envelope::from(frames(&["id", ""])), Bytes::new())));
    }

    #[test]
    fn missing_and_surplus_bodies_can_be_answered() {
        let Some(Event::Malformed(envelope, _)) = open(frames(&["id", "1234", ""])) else {
            panic!()
        };
        assert_eq!(envelope, Envelope::from(frames(&["id", "1234", ""])));
        let Some(Event::Malformed(envelope, _)) = open(frames(&["id", "", "body", "more"])) else {
            panic!()
        };
        assert_eq!(envelope, Envelope::from(frames(&["id", ""])));
    }
}
