//! A client's connection with the engine `omq`.

use std::{
    collections::VecDeque,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use omq_tokio::{
    DisconnectReason, Error, Message, MonitorEvent, MonitorRecvError, MonitorStream, Options,
    Socket, SocketType, TrySendError,
};
use tokio::time;

use crate::transport::{
    self, Address, Link, LinkEvent, TransportConfig, TransportError, explain,
    mechanism::Refused,
    omq::{First, Incoming, Raw, cause, endpoint, limits},
    poll_adapter::PollAdapter,
};

#[cfg(feature = "curve")]
use crate::transport::{Curve, omq::curve};

/// Opens a DEALER socket, and waits for its handshake. The server chooses the identity of the
/// socket: a fixed identity could displace another client.
pub(in crate::transport) async fn connect(
    address: &Address,
    config: &TransportConfig,
    timeout: Duration,
) -> Result<Link, TransportError> {
    let options = limits::client_options(config.max_message_size, timeout);
    #[cfg(feature = "curve")]
    if let Some(Curve::Client { secret, servers }) = &config.curve {
        let mut refusal = None;
        let mut last = "no key of a server was given".into();
        for server in servers.iter() {
            let options = curve::client_options(options.clone(), secret, *server);
            match connect_with(options, address, timeout).await {
                Ok(link) => return Ok(link),
                // It is the server's own word, and says more than that the next key is not its.
                Err(refused) if refused.is::<Refused>() => refusal = Some(refused),
                Err(error) => last = error,
            }
        }
        return Err(refusal.unwrap_or(last));
    }
    connect_with(options, address, timeout).await
}

async fn connect_with(
    options: Options,
    address: &Address,
    timeout: Duration,
) -> Result<Link, TransportError> {
    let socket = limits::socket(SocketType::Dealer, options);
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
        Err(refused) if refused.is::<Refused>() => Err(refused),
        Err(reason) if reached => Err(format!("{}: {reason}", explain::NOT_ZEROMQ).into()),
        Err(reason) => Err(explain::reach(address).await.err().map_or(reason, Into::into)),
    }
}

/// Waits until the handshake has succeeded, or returns the reason why it has not. Sets `reached` if
/// a peer has accepted the connection.
async fn is_up(monitor: &mut MonitorStream, reached: &mut bool) -> Result<(), TransportError> {
    let mut failure = None;
    loop {
        match monitor.recv().await {
            Ok(MonitorEvent::Connected { .. }) => *reached = true,
            Ok(MonitorEvent::HandshakeSucceeded { .. }) => return Ok(()),
            // The next event tells whether it was refused.
            Ok(MonitorEvent::HandshakeFailed { reason, .. }) => failure = Some(reason),
            Ok(MonitorEvent::ConnectStopped { .. }) => return Err(Refused.into()),
            Ok(MonitorEvent::ConnectDelayed { .. }) => {
                return Err(failure
                    .unwrap_or_else(|| "it closed the connection".to_owned())
                    .into());
            }
            // There are too few events for one to be lost.
            Ok(_) | Err(MonitorRecvError::Lagged(_)) => {}
            Err(closed) => return Err(closed.into()),
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
