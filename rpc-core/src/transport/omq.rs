//! tcp and ipc on the `omq-tokio` crate: the only file that names it.
//!
//! The engine bounds what strangers can do: sizes, handshakes and queues have limits, which are set
//! here. It never makes a connection again: what was sent on a lost one may have been sent
//! elsewhere since.
//!
//! What the engine leaves to us: it tells of lost peers through its monitor only, and does not say
//! why a host cannot be reached.

use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use omq_tokio::{
    DisconnectReason, Endpoint as Address, Error, IpcPath, KeepAlive, Message, MonitorEvent,
    MonitorRecvError, MonitorStream, MonitorTryRecvError, Options, PeerInfo, ReconnectPolicy,
    Socket, SocketType, TrySendError, message::generated_identity,
};
use tokio::{sync::mpsc, time};

use crate::{
    endpoint::Endpoint,
    peer::PeerId,
    protocol::DEFAULT_MAX_MESSAGE_SIZE,
    transport::{
        self, BoxFuture, Event, Link, LinkEvent, ReplyTo, TransportError, explain,
        poll_adapter::PollAdapter,
        socket_file::{self, SocketFile},
        zmtp,
    },
    util::{fair_share::Lease, io_thread::LINGER},
};

/// How long a peer may take to shake hands: a few round trips on the slowest network.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How many accepted peers may be shaking hands at once; the engine gives each host an eighth of
/// it, and the machine's own peers all. One more is closed, and comes again. It bounds what
/// strangers can hold, and is more than a fleet of clients that a restarted server sees at the same
/// moment.
const MAX_HANDSHAKES: usize = 1_024;
/// How often a silent peer is asked whether it is there. Only peers that speak ZMTP 3.1 are asked.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long after being asked it may be silent. It is looked at with every beat, so that a peer
/// that vanished is noticed within 25 s: before the default timeout of a call.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(15);
/// How the system asks peers, also those that do not speak ZMTP 3.1. With [`UNREAD`], which Linux
/// applies to its questions as well, it notices in a little more than a minute that one has
/// vanished.
const KEEPALIVE: KeepAlive =
    KeepAlive::Enabled { idle: Duration::from_secs(15), intvl: Duration::from_secs(5), cnt: 3 };
/// How long a peer may take nothing of what was sent. Until then it may be slow; heartbeats cannot
/// tell, because they wait behind what it does not take.
const UNREAD: Duration = Duration::from_secs(60);
/// How many messages may wait in each of the engine's queues. It keeps the memory, 64 bytes a
/// message, for every connection. When one is full a client's sending task waits, a server's
/// replies wait elsewhere (see [`REPLIES`]), and nothing more is received.
const MESSAGES: u32 = 1_024;
/// How many more replies may wait for a peer that does not read as fast as it asks; beyond it they
/// are dropped. A client of ours has no more calls in flight, unless it is told to, and so finds
/// them all.
const REPLIES: usize = 65_536;
/// Events wait for the server's loop, which takes them before anything else. Each peer that comes
/// and goes makes three. The engine keeps the memory for all, some 300 bytes each.
const EVENTS: usize = 4_096;
/// The same for a client's socket, which has one peer, once.
const CLIENT_EVENTS: usize = 64;
/// What a message may be longer than its body: identities of proxies, and what the engine counts
/// for each frame.
const ENVELOPE: usize = 64 * 1024;
/// The engine only says that a connection could not be made if it is to try again. So it is to, but
/// not before the socket has long gone.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3_600);

/// What servers and clients have in common.
fn options(max_message_size: usize) -> Options {
    // Messages a little over a small limit are answered `too_large`, which is better than to lose
    // the connection and whatever else is on it.
    let longest = max_message_size.max(DEFAULT_MAX_MESSAGE_SIZE).saturating_add(ENVELOPE);
    Options::new()
        .max_message_size(longest)
        .handshake_timeout(HANDSHAKE)
        .max_pending_handshakes(MAX_HANDSHAKES)
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_timeout(HEARTBEAT_TIMEOUT)
        .tcp_keepalive(KEEPALIVE)
        .tcp_user_timeout(UNREAD)
        .send_hwm(MESSAGES)
        .recv_hwm(MESSAGES)
        .linger(LINGER)
}

/// Lives on the runtime that this is called in.
fn socket(kind: SocketType, options: Options) -> Socket {
    Socket::try_new(kind, options).expect("the options are within the engine's limits")
}

fn address(endpoint: &Endpoint) -> Result<Address, TransportError> {
    match endpoint {
        // As text, a path that begins with `@` would not be a file.
        Endpoint::Ipc(path) => Ok(Address::Ipc(IpcPath::Filesystem(path.clone()))),
        other => other.to_string().parse().map_err(cause),
    }
}

/// The engine wraps what the system says in words of its own.
fn cause(error: Error) -> TransportError {
    match error {
        Error::Io(cause) => cause.into(),
        other => other.into(),
    }
}

/// A ROUTER socket that is being bound.
pub(super) struct Binding(Listener);

impl Binding {
    pub(super) fn new(max_message_size: usize) -> Self {
        // With `router_mandatory` the engine reports a peer that has gone, or whose queue is full.
        let options = options(max_message_size).router_mandatory(true).monitor_capacity(EVENTS);
        let socket = socket(SocketType::Router, options);
        let incoming =
            Incoming { socket: socket.clone(), monitor: socket.monitor(), first: First::Events };
        Self(Listener {
            files: Vec::new(),
            bound: Vec::new(),
            socket,
            incoming: PollAdapter::Idle(incoming),
            slow: HashMap::new(),
            closed: false,
        })
    }

    async fn bind(&mut self, endpoint: &Endpoint) -> Result<String, TransportError> {
        let Self(listener) = self;
        let Endpoint::Ipc(path) = endpoint else {
            let bound = listener.socket.bind(address(endpoint)?).await.map_err(cause)?;
            listener.bound.push(bound.clone());
            return Ok(match (endpoint, bound) {
                // The name that was asked for, and not the address that it has at the moment.
                (Endpoint::Tcp { host, .. }, Address::Tcp { port, .. }) => {
                    Endpoint::Tcp { host: host.clone(), port }.to_string()
                }
                (_, bound) => bound.to_string(),
            });
        };
        let name = socket_file::unused_name(path);
        let own = Address::Ipc(IpcPath::Filesystem(name.clone()));
        listener.bound.push(listener.socket.bind(own).await.map_err(cause)?);
        listener.files.push(socket_file::publish(name, path).await?);
        Ok(endpoint.to_string())
    }
}

impl transport::Binding for Binding {
    fn bind<'a>(
        &'a mut self,
        endpoint: &'a Endpoint,
    ) -> BoxFuture<'a, Result<String, TransportError>> {
        Box::pin(self.bind(endpoint))
    }

    fn listen(self: Box<Self>) -> Box<dyn transport::Listener> {
        Box::new(self.0)
    }
}

/// A ROUTER socket.
struct Listener {
    /// These go before the socket does, see [`SocketFile`].
    files: Vec<SocketFile>,
    /// The addresses that accept peers.
    bound: Vec<Address>,
    socket: Socket,
    incoming: PollAdapter<Incoming, Raw>,
    /// Peers whose queue in the engine was full once, each with a task that waits for room in it. A
    /// task ends with its peer, or with this, once it has passed everything on.
    slow: HashMap<PeerId, mpsc::Sender<Message>>,
    /// True once the socket has closed itself.
    closed: bool,
}

/// The messages and the connection events of a socket.
struct Incoming {
    socket: Socket,
    monitor: MonitorStream,
    first: First,
}

/// The kind of item that comes first when there are both.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    /// On a server: the engine keeps a bounded number of events, and receiving produces more.
    Events,
    /// On a client: the replies that came before the connection was lost still count.
    Messages,
}

/// The next item of an [`Incoming`].
enum Raw {
    Message(Result<Message, Error>),
    Event(Result<MonitorEvent, MonitorRecvError>),
}

impl Incoming {
    /// Returns an item that is there already.
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

    /// Waits for an item. Call [`try_next`](Self::try_next) first, which keeps the order.
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
                // The peers that have gone meanwhile are unknown. Their requests run to their end.
                Raw::Event(Err(MonitorRecvError::Lagged(events))) => {
                    tracing::warn!(events, "peers came and went faster than they were looked at");
                    self.slow.clear();
                }
                Raw::Message(Ok(message)) => {
                    if let Some(event) = zmtp::split(message.iter().collect()) {
                        return Poll::Ready(event);
                    }
                }
                // The socket closes itself only if something in the engine has failed.
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
        // The task ends by itself: the engine answers, or the engine's own task has ended.
        tokio::spawn(async move {
            for address in bound {
                // An error means that the address is not bound any more.
                let _ = socket.unbind(address).await;
            }
        });
    }
}

/// Passes replies on to the engine as it has room for them, until no more come or their peer has gone.
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
        // Another connection has the name now, and answers to the name may still be sent there.
        MonitorEvent::Disconnected { reason: DisconnectReason::Handover, .. } => None,
        MonitorEvent::Disconnected {
            peer: PeerInfo { peer_identity, connection_id, .. }, ..
        } => {
            // A peer without a name is called by the number of its connection.
            let name = peer_identity.unwrap_or_else(|| generated_identity(connection_id));
            Some(PeerId::new(name))
        }
        _ => None,
    }
}

/// Opens a DEALER socket. Its identity is the server's choice: a fixed one could take another
/// client's place.
pub(super) async fn connect(
    endpoint: &Endpoint,
    max_message_size: usize,
    timeout: Duration,
) -> Result<Link, TransportError> {
    let options = options(max_message_size)
        .monitor_capacity(CLIENT_EVENTS)
        .handshake_timeout(timeout * 7 / 8)
        .reconnect(ReconnectPolicy::Fixed(NEVER));
    let socket = socket(SocketType::Dealer, options);
    let mut monitor = socket.monitor();
    socket.connect(address(endpoint)?).await.map_err(cause)?;
    let mut reached = false;
    // The engine keeps the time of the handshake, this one that of looking up a name.
    let Ok(up) = time::timeout(timeout, is_up(&mut monitor, &mut reached)).await else {
        return Err("the host's name was not found in time".into());
    };
    match up {
        Ok(()) => {
            let sender = LinkSender(PollAdapter::Idle(socket.clone()));
            let incoming = Incoming { socket, monitor, first: First::Messages };
            Ok((Box::new(sender), Box::new(LinkReceiver(PollAdapter::Idle(incoming)))))
        }
        Err(reason) if reached => Err(format!("{}: {reason}", explain::NOT_ZEROMQ).into()),
        Err(reason) => {
            Err(explain::reach(endpoint).await.err().map_or_else(|| reason.into(), Into::into))
        }
    }
}

/// Waits until the handshake is done, or tells why it was not. `reached` is set if there is
/// anybody.
async fn is_up(monitor: &mut MonitorStream, reached: &mut bool) -> Result<(), String> {
    loop {
        match monitor.recv().await {
            Ok(MonitorEvent::Connected { .. }) => *reached = true,
            Ok(MonitorEvent::HandshakeSucceeded { .. }) => return Ok(()),
            Ok(MonitorEvent::HandshakeFailed { reason, .. }) => return Err(reason),
            Ok(MonitorEvent::ConnectDelayed { .. }) => {
                return Err("it closed the connection".to_owned());
            }
            // There are not that many.
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
        let begin = |socket| send(socket, body.take().unwrap_or_default());
        self.0.poll(begin, cx).map_err(cause)
    }
}

async fn send(socket: Socket, body: Bytes) -> (Socket, Result<(), Error>) {
    let sent = socket.send(Message::multipart([Bytes::new(), body])).await;
    (socket, sent)
}

struct LinkReceiver(PollAdapter<Incoming, Raw>);

impl transport::LinkReceiver for LinkReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<LinkEvent, TransportError>> {
        loop {
            match ready!(self.0.poll_next(cx)) {
                Raw::Message(message) => {
                    // The frames in front of the body are the envelope that this side has made.
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
