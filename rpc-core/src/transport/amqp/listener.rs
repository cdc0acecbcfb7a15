//! The server's side: the queue of a service, from which it takes requests.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{sync::mpsc, time};

use super::{
    broker::MAX_MESSAGE,
    delivery::{Delivered, Settled},
    session::{Reply, Session},
};
use crate::{
    endpoint::amqp::AmqpAddress,
    transport::{self, Event, ReplyTo, TransportError, Workload},
    util::fair_share::Lease,
};

/// The time for connecting to a broker and declaring the queues.
const CONNECTING: Duration = Duration::from_secs(10);
/// The time after which RabbitMQ by default closes the channel of a consumer that has not
/// acknowledged a message.
const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The first and the longest pause between two attempts to connect again.
const INITIAL_BACKOFF: Duration = Duration::from_millis(20);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// A queue of a broker. The connection is replaced when it fails: what is not acknowledged is then
/// delivered again, here or to another server.
pub(in crate::transport) struct Listener {
    address: AmqpAddress,
    state: State,
    replies: VecDeque<Reply>,
    /// The deliveries whose last address was dropped.
    settled: mpsc::UnboundedReceiver<Settled>,
    settle: mpsc::UnboundedSender<Settled>,
    /// The number of this connection. Deliveries of earlier ones cannot be settled any more.
    generation: u64,
    /// True if a difference of the clocks was logged.
    clocks_differ: bool,
    /// True from [`give_back`](transport::Listener::give_back) until the next poll.
    giving_back: bool,
}

enum State {
    Connected(Box<Session>),
    Connecting(BoxFuture<'static, Session>),
    /// The connection was lost while the server drained.
    Closed,
}

/// Listens on the queue at `address`, which is made if it does not exist.
pub(in crate::transport) async fn listen(
    address: &AmqpAddress,
    max_message_size: usize,
    workload: Workload,
) -> Result<Listener, TransportError> {
    if max_message_size > MAX_MESSAGE {
        return Err(format!(
            "a broker takes messages of up to 128 MiB, and the server's limit (max_message_size) \
             is {max_message_size} bytes"
        )
        .into());
    }
    if workload.longest_call > ACKNOWLEDGEMENT_TIMEOUT {
        tracing::warn!(
            longest_call = ?workload.longest_call,
            "RabbitMQ delivers a request again after {ACKNOWLEDGEMENT_TIMEOUT:?}, while it still \
             runs: set `consumer_timeout` in its configuration to more than the longest call takes"
        );
    }
    let most = u16::try_from(workload.max_requests).unwrap_or(u16::MAX);
    let address = AmqpAddress { prefetch: address.prefetch.min(most), ..address.clone() };
    let session = Session::open(&address, Instant::now() + CONNECTING).await?;
    let (settle, settled) = mpsc::unbounded_channel();
    Ok(Listener {
        address,
        state: State::Connected(Box::new(session)),
        replies: VecDeque::new(),
        settled,
        settle,
        generation: 0,
        clocks_differ: false,
        giving_back: false,
    })
}

/// Connects again, however long that takes.
async fn reconnect(address: AmqpAddress) -> Session {
    let mut backoff = INITIAL_BACKOFF;
    loop {
        time::sleep(backoff.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        match Session::open(&address, Instant::now() + CONNECTING).await {
            Ok(session) => {
                tracing::info!(endpoint = %address, "connected to the broker again");
                return session;
            }
            Err(cause) => tracing::info!(endpoint = %address, %cause, "cannot reach the broker"),
        }
        backoff = (2 * backoff).min(MAX_BACKOFF);
    }
}

impl Listener {
    /// Moves verdicts, replies and deliveries on. Returns the next event.
    fn poll_session(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            let session = match &mut self.state {
                State::Connected(session) => session,
                State::Connecting(connecting) => match connecting.as_mut().poll(cx) {
                    Poll::Ready(session) => {
                        self.state = State::Connected(Box::new(session));
                        continue;
                    }
                    Poll::Pending => return self.forget(cx),
                },
                State::Closed => return self.forget(cx),
            };
            let generation = self.generation;
            let polled = session.poll_replies(&mut self.replies, cx).and_then(|()| {
                take_verdicts(&mut self.settled, session, generation, cx);
                session.poll_settle(cx)?;
                session.poll_deliveries(cx)
            });
            let error = match polled {
                Ok(Poll::Ready(delivery)) => {
                    let delivered = Delivered::new(&delivery, generation, self.settle.clone());
                    if !self.clocks_differ && delivered.clocks_differ(&delivery) {
                        self.clocks_differ = true;
                        tracing::warn!(
                            endpoint = %self.address,
                            "a request came that had expired long ago by the clock of this \
                             machine: do the clocks of client and server agree?"
                        );
                    }
                    let body = Bytes::from(delivery.data);
                    return Poll::Ready(Event::Body(delivered.into_reply_to(), body));
                }
                Ok(Poll::Pending) => return Poll::Pending,
                Err(error) => error,
            };
            let accepting = session.is_accepting();
            self.handle_loss(&error, accepting);
        }
    }

    /// Drops what cannot reach the broker: what was answered while there was no connection is
    /// delivered again.
    fn forget(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.replies.clear();
        while let Poll::Ready(Some(_)) = self.settled.poll_recv(cx) {}
        Poll::Pending
    }

    fn handle_loss(&mut self, cause: &TransportError, accepting: bool) {
        self.generation += 1;
        let endpoint = &self.address;
        if accepting {
            tracing::warn!(%endpoint, %cause, "lost the broker, and connects again");
            self.state = State::Connecting(Box::pin(reconnect(endpoint.clone())));
        } else {
            tracing::warn!(%endpoint, %cause, "lost the broker, and its last requests are not \
                                               acknowledged");
            self.state = State::Closed;
        }
    }
}

/// Tells the session of the deliveries that were settled, if they are its own.
fn take_verdicts(
    settled: &mut mpsc::UnboundedReceiver<Settled>,
    session: &mut Session,
    generation: u64,
    cx: &mut Context<'_>,
) {
    while let Poll::Ready(Some(settled)) = settled.poll_recv(cx) {
        if settled.generation == generation {
            session.decide(settled.number, settled.verdict);
        }
    }
}

impl transport::Listener for Listener {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.poll_session(cx)
    }

    fn send(&mut self, reply_to: ReplyTo, body: Bytes, lease: Lease) -> bool {
        if reply_to.delivery().is_none_or(|delivery| !delivery.is_answerable()) {
            return false;
        }
        self.replies.push_back(Reply::new(reply_to, body, lease));
        true
    }

    fn stop_accepting(&mut self) {
        match &mut self.state {
            State::Connected(session) => session.stop_accepting(),
            State::Connecting(_) => self.state = State::Closed,
            State::Closed => {}
        }
    }

    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.giving_back) {
            // The last addresses of the functions that were given up.
            while self.settled.try_recv().is_ok() {}
        }
        // Deliveries are returned, because nothing is accepted any more.
        let polled = self.poll_session(cx);
        debug_assert!(polled.is_pending(), "nothing is delivered after `stop_accepting`");
        match &self.state {
            State::Connected(session) if !session.is_settled() => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    fn give_back(&mut self) -> bool {
        self.stop_accepting();
        if let State::Connected(session) = &mut self.state {
            let mut cx = Context::from_waker(Waker::noop());
            take_verdicts(&mut self.settled, session, self.generation, &mut cx);
        }
        self.giving_back = true;
        true
    }
}
