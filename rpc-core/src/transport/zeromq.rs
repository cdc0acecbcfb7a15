//! The transport for tcp and ipc on the `zeromq` crate. No other file names that crate.
//!
//! The engine does not reconnect, and reports a lost peer only through its monitor. Its `send`
//! waits while the queue of a peer (100,000 messages) is full. The egress quota of the server keeps
//! that queue from ever being full.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_channel::mpsc;
use futures_core::Stream;
use futures_util::{FutureExt, StreamExt};
use zeromq::{
    DealerRecvHalf, DealerSendHalf, DealerSocket, Listener as Bound, RouterRecvHalf,
    RouterSendHalf, RouterSocket, Socket, SocketEvent, SocketOptions, SocketRecv, SocketSend,
    ZmqError, ZmqMessage,
};

use crate::{
    endpoint::IpcAddress,
    peer::PeerId,
    transport::{
        self, Address, BoxFuture, Event, Link, LinkEvent, ReplyTo, TransportError, explain,
        poll_adapter::PollAdapter,
        socket_file::{self, SocketFile},
        tcp, zmtp,
    },
    util::fair_share::Lease,
};

type Monitor = Box<dyn Stream<Item = SocketEvent> + Send + Unpin>;

/// A ROUTER socket that is being bound.
pub(super) struct Binding {
    socket: RouterSocket,
    accepting: Accepting,
}

impl Binding {
    pub(super) fn new() -> Self {
        Self { socket: RouterSocket::new(), accepting: Accepting::default() }
    }

    async fn bind_tcp(&mut self, addresses: &[SocketAddr]) -> Result<u16, TransportError> {
        let mut port = 0;
        for listener in tcp::listen(addresses)? {
            port = listener.local_addr()?.port();
            self.accept(listener).await?;
        }
        Ok(port)
    }

    async fn bind_ipc(&mut self, address: &IpcAddress, mode: u32) -> Result<(), TransportError> {
        match address {
            IpcAddress::Path(path) => {
                let (listener, file) = socket_file::listen(path, mode).await?;
                self.accept(listener).await?;
                self.accepting.files.push(file);
                Ok(())
            }
            IpcAddress::Abstract(name) => self.accept(socket_file::listen_abstract(name)?).await,
        }
    }

    /// Begins to accept peers on `listener`.
    async fn accept(&mut self, listener: impl Into<Bound> + Send) -> Result<(), TransportError> {
        self.socket.bind_listener(listener).await.map_err(cause)?;
        // The engine keeps the handles by address, without names and zones. So two listeners can
        // have the same address there, and the later one would end the earlier one.
        let handles = std::mem::take(self.socket.binds());
        self.accepting.handles.push(Box::new(handles));
        Ok(())
    }
}

impl transport::Binding for Binding {
    fn bind_tcp<'a>(
        &'a mut self,
        addresses: &'a [SocketAddr],
    ) -> BoxFuture<'a, Result<u16, TransportError>> {
        Box::pin(self.bind_tcp(addresses))
    }

    fn bind_ipc<'a>(
        &'a mut self,
        address: &'a IpcAddress,
        mode: u32,
    ) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(self.bind_ipc(address, mode))
    }

    fn listen(self: Box<Self>) -> Box<dyn transport::Listener> {
        // The engine's own monitor has capacity for 1,024 events, and one poll of the sockets can
        // find more peers that have disconnected.
        let (events, monitor) = mpsc::channel(MAX_EVENTS);
        self.socket.backend().monitor().lock().replace(events);
        let (sender, receiver) = self.socket.split();
        Box::new(Listener {
            sender,
            receiver,
            monitor,
            accepting: Some(self.accepting),
            no_files: NoFiles::default(),
        })
    }
}

/// Unwraps the innermost error, which says enough, from the engine's own errors around it.
fn cause(error: ZmqError) -> TransportError {
    match error {
        ZmqError::Network(cause) => cause.into(),
        ZmqError::Codec(cause) => cause.to_string().into(),
        other => other.into(),
    }
}

/// A ROUTER socket.
struct Listener {
    sender: RouterSendHalf,
    receiver: RouterRecvHalf,
    monitor: mpsc::Receiver<SocketEvent>,
    /// `None` once the listener has stopped accepting.
    accepting: Option<Accepting>,
    no_files: NoFiles,
}

/// Reports that the process is out of file descriptors. The engine then fails to accept the same
/// connection again and again, without a pause, and logs nothing.
#[derive(Default)]
struct NoFiles {
    reported: Option<Instant>,
}

impl NoFiles {
    const INTERVAL: Duration = Duration::from_secs(10);

    /// Logs a warning if that is the reason why accepting has failed, but only once per interval.
    fn handle_accept_error(&mut self, error: &ZmqError) {
        let ZmqError::Network(error) = error else { return };
        let is_reason = error.raw_os_error().is_some_and(|code| tcp::OUT_OF_FILES.contains(&code));
        if is_reason && self.reported.is_none_or(|last| last.elapsed() >= Self::INTERVAL) {
            self.reported = Some(Instant::now());
            tracing::warn!(
                %error,
                "out of file descriptors: no new peer is accepted, and trying takes a whole core; \
                 raise the limit (`ulimit -n`, or `LimitNOFILE` of systemd), or open fewer files"
            );
        }
    }
}

/// The number of events that may wait. It is larger than the number of connections of a process,
/// and so larger than the number of peers that can be lost at once.
const MAX_EVENTS: usize = 1 << 20;

/// The handles that keep a socket accepting, until they are dropped. The files must be dropped
/// first, see [`SocketFile`].
#[derive(Default)]
struct Accepting {
    files: Vec<SocketFile>,
    handles: Vec<Box<dyn Send>>,
}

impl transport::Listener for Listener {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            // Lost peers come first, because receiving messages reports more of them.
            while let Poll::Ready(Some(event)) = self.monitor.poll_next_unpin(cx) {
                match event {
                    SocketEvent::Disconnected(peer) => {
                        return Poll::Ready(Event::PeerGone(PeerId::unverified(peer.into())));
                    }
                    SocketEvent::AcceptFailed(error) => self.no_files.handle_accept_error(&error),
                    _ => {}
                }
            }
            let message = ready!(pin!(self.receiver.recv()).poll(cx));
            // An error cannot occur, because the engine's queue never ends.
            if let Some(event) =
                message.ok().and_then(|message| zmtp::split(message.into_vecdeque(), None))
            {
                return Poll::Ready(event);
            }
        }
    }

    fn send(&mut self, reply_to: ReplyTo, body: Bytes, lease: Lease) -> bool {
        let frames = zmtp::frames_to(reply_to, body, lease);
        let Ok(message) = ZmqMessage::try_from(frames) else { return false };
        // The send is polled only once. A send that waits would hold the engine's entry for the
        // peer, and block the sends to all other peers.
        self.sender.send(message).now_or_never().is_some_and(|sent| sent.is_ok())
    }

    fn stop_accepting(&mut self) {
        self.accepting = None;
    }
}

/// Returns an address as the engine parses it.
fn text(address: &Address) -> String {
    match address {
        // The engine takes an address with a zone for a name, and looks it up with its zone.
        Address::Tcp(SocketAddr::V6(address)) if address.scope_id() != 0 => {
            format!("tcp://{}%{}:{}", address.ip(), address.scope_id(), address.port())
        }
        Address::Tcp(address) => format!("tcp://{address}"),
        Address::Ipc(IpcAddress::Path(path)) => format!("ipc://{}", path.display()),
        // The zero byte in front marks the abstract namespace.
        Address::Ipc(IpcAddress::Abstract(name)) => format!("ipc://\0{name}"),
    }
}

/// Opens a DEALER socket. The server chooses the identity of the socket: a fixed identity could
/// displace another client.
pub(super) async fn connect(address: &Address, timeout: Duration) -> Result<Link, TransportError> {
    let mut options = SocketOptions::default();
    options.connect_timeout(timeout);
    let mut socket = DealerSocket::with_options(options);
    let monitor = Box::new(socket.monitor());
    if let Err(error) = socket.connect(&text(address)).await {
        // The engine has retried until its time was up, and does not say why it has failed.
        let ZmqError::ConnectTimeout(_) = error else { return Err(cause(error)) };
        return Err(explain::NOT_ZEROMQ.into());
    }
    let (sender, receiver) = socket.split();
    let sender = LinkSender(PollAdapter::Idle(sender));
    Ok(Link::to_peer(sender, LinkReceiver { receiver, monitor }))
}

/// The sending half of a link. While the engine's queue (100,000 messages) is full, the sending
/// task waits, and calls stay in the client's table.
struct LinkSender(PollAdapter<DealerSendHalf, Result<(), TransportError>>);

impl transport::LinkSender for LinkSender {
    fn poll_send(
        &mut self,
        body: &mut Option<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TransportError>> {
        let begin = |sender| send(sender, body.take().expect("the first poll has a body"));
        self.0.poll(begin, cx)
    }
}

async fn send(
    mut sender: DealerSendHalf,
    body: Bytes,
) -> (DealerSendHalf, Result<(), TransportError>) {
    let frames = VecDeque::from([Bytes::new(), body]);
    let message = ZmqMessage::try_from(frames).expect("a message has at least one frame");
    let sent = sender.send(message).await.map_err(cause);
    (sender, sent)
}

struct LinkReceiver {
    receiver: DealerRecvHalf,
    monitor: Monitor,
}

impl transport::LinkReceiver for LinkReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<LinkEvent, TransportError>> {
        while let Poll::Ready(message) = pin!(self.receiver.recv()).poll(cx) {
            let message = message.map_err(cause)?;
            // The frames in front of the body are the envelope that this side has sent.
            if let Some(body) = message.into_vecdeque().pop_back() {
                return Poll::Ready(Ok(LinkEvent::Body(body)));
            }
        }
        loop {
            match ready!(Pin::new(&mut self.monitor).poll_next(cx)) {
                Some(SocketEvent::Disconnected(_)) | None => {
                    return Poll::Ready(Err("the server closed it".into()));
                }
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn only_the_lack_of_files_is_reported_and_only_once() {
        let mut no_files = NoFiles::default();
        let error = |code| ZmqError::Network(io::Error::from_raw_os_error(code));
        no_files.handle_accept_error(&ZmqError::Other("a handshake failed"));
        no_files.handle_accept_error(&error(104));
        assert_eq!(no_files.reported, None);
        no_files.handle_accept_error(&error(24));
        let reported = no_files.reported;
        assert!(reported.is_some());
        no_files.handle_accept_error(&error(23));
        assert_eq!(no_files.reported, reported);
    }
}
