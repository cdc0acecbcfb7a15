//! One connection, as its callers see it: they put messages into the queue and take outcomes out of the table.
//! The tasks below own the socket and keep the connection up.

mod tasks;

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Instant,
};

use tokio::sync::{Notify, watch};

pub(crate) use self::tasks::{EndCalls, run};
use crate::{
    args::EncodedArgs,
    client::in_flight::{InFlight, Outcome, Want},
    error::{ErrorKind, Ran, RpcError},
    message::MsgId,
    transport::TransportError,
};

/// What is shared by a client, its calls and the connection's tasks.
#[derive(Debug)]
pub(crate) struct Connection {
    endpoint: Arc<str>,
    max_message_size: usize,
    state: Mutex<State>,
    /// There may be something to send, or the phase has changed.
    outgoing: Notify,
    /// The earliest deadline is earlier than it was.
    deadline: Notify,
    status: watch::Sender<Status>,
    /// What came of the first connection, which stays: or why there will be none.
    first: watch::Sender<Option<Result<(), Arc<str>>>>,
    /// Set when nothing more may be awaited from the connection.
    closed: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    in_flight: InFlight,
    /// New calls are refused.
    closing: bool,
    /// The server is going: new calls wait for the next connection.
    leaving: bool,
}

/// Whether there is a connection.
#[derive(Debug, Clone)]
pub(crate) enum Status {
    Connecting {
        /// Why the last attempt failed, if one has.
        failure: Option<Arc<str>>,
    },
    Up(Peer),
    /// The connection's task has gone.
    Ended,
}

/// What `rpc.hello` has told of the peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// It knows this protocol; otherwise it is plain MessagePack-RPC, without options, ping and cancel.
    pub(crate) extended: bool,
    /// The longest message that both sides take, in bytes.
    max_message_size: usize,
}

impl Connection {
    pub(crate) fn new(endpoint: Arc<str>, max_in_flight: usize, max_message_size: usize) -> Arc<Self> {
        let state = State { in_flight: InFlight::new(max_in_flight), closing: false, leaving: false };
        Arc::new(Self {
            endpoint,
            max_message_size,
            state: Mutex::new(state),
            outgoing: Notify::new(),
            deadline: Notify::new(),
            status: watch::Sender::new(Status::Connecting { failure: None }),
            first: watch::Sender::new(None),
            closed: watch::Sender::new(false),
        })
    }

    pub(crate) fn endpoint(&self) -> &Arc<str> {
        &self.endpoint
    }

    /// Waits until there has been a connection, or will be none, and tells why.
    pub(crate) async fn first(&self) -> Result<(), Arc<str>> {
        let mut first = self.first.subscribe();
        // An error would mean that the sender has gone, and `self` holds it.
        let settled = first.wait_for(Option::is_some).await;
        settled.ok().and_then(|first| first.clone()).unwrap_or(Ok(()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; if something did, the table is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a call. Its id is to be given to [`poll`](Self::poll) until that has an outcome, or to
    /// [`cancel`](Self::cancel).
    pub(crate) fn submit(
        &self,
        args: EncodedArgs,
        want: Want,
        deadline: Instant,
        waker: &Waker,
    ) -> Result<MsgId, RpcError> {
        if let Some(error) = args.error() {
            let message = "the arguments cannot be encoded";
            return Err(RpcError::new(ErrorKind::BadArguments, Ran::No, message).with_source(error.clone()));
        }
        if args.message_len() > self.max_message_size {
            return Err(request_too_large(args.message_len(), "client", self.max_message_size));
        }
        let mut state = self.lock();
        if state.closing {
            return Err(RpcError::new(ErrorKind::ShuttingDown, Ran::No, "this client was closed"));
        }
        let submitted = state.in_flight.submit(args, want, deadline, waker)?;
        drop(state);
        self.outgoing.notify_one();
        if submitted.earliest {
            self.deadline.notify_one();
        }
        Ok(submitted.id)
    }

    pub(crate) fn poll(&self, id: MsgId, waker: &Waker) -> Poll<Outcome> {
        let mut waker = waker.clone();
        let outcome = self.lock().in_flight.poll(id, &mut waker);
        outcome.map_or(Poll::Pending, |outcome| Poll::Ready(outcome.map_err(|error| self.explain(error))))
    }

    /// Adds why there is no connection to the error of a call that waited for one.
    fn explain(&self, error: RpcError) -> RpcError {
        match &*self.status.borrow() {
            Status::Connecting { failure: Some(failure) }
                if error.kind() == ErrorKind::DeadlineExceeded && error.ran() == Ran::No =>
            {
                error.with_source(&**failure)
            }
            _ => error,
        }
    }

    pub(crate) fn cancel(&self, id: MsgId) {
        let mut waker = Waker::noop().clone();
        let tell = self.lock().in_flight.cancel(id, &mut waker);
        if tell {
            self.outgoing.notify_one();
        }
    }

    /// Ends the calls whose time was up at `overdue`, and tells when the next one's will be.
    pub(crate) fn next_deadline_after(&self, overdue: Option<Instant>) -> Option<Instant> {
        let mut state = self.lock();
        let wakers = overdue.map(|overdue| state.in_flight.expire(overdue)).unwrap_or_default();
        let next = state.in_flight.next_deadline();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        next
    }

    /// Ends the connection once what is queued has been sent. Calls that wait then end as disconnected.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.closed.send_replace(true);
        // After the flag, which the sending task looks at when it wakes.
        self.outgoing.notify_one();
    }

    /// Refuses new calls, and waits until the server has read everything that was sent, or `deadline`.
    pub(crate) async fn flush(&self, deadline: Instant) {
        let submitted = {
            let mut state = self.lock();
            state.closing = true;
            // A plain peer knows no ping: what the socket has taken is all that can be known.
            if !matches!(&*self.status.borrow(), Status::Up(peer) if peer.extended) {
                return;
            }
            let ping = EncodedArgs::dynamic("rpc.ping".to_owned(), &());
            match state.in_flight.submit(ping, Want::Reply, deadline, Waker::noop()) {
                Ok(submitted) => submitted,
                Err(_) => return,
            }
        };
        self.outgoing.notify_one();
        self.deadline.notify_one();
        // The outcome does not matter: either way there is nothing more to wait for.
        let _ = poll_fn(|cx| self.poll(submitted.id, cx.waker())).await;
    }

    /// Waits until the connection's task has ended, which it does within [`LINGER`] of [`close`](Self::close).
    pub(crate) async fn ended(&self) {
        // An error would mean that the sender has gone, and `self` holds it.
        let _ = self.status.subscribe().wait_for(|status| matches!(status, Status::Ended)).await;
    }

    /// Notes what came of the first connection, if that is not known yet.
    fn settle(&self, outcome: Result<(), Arc<str>>) {
        self.first.send_if_modified(|first| {
            let news = first.is_none();
            if news {
                *first = Some(outcome);
            }
            news
        });
    }

    fn complete(&self, id: MsgId, outcome: Outcome) {
        let mut state = self.lock();
        let waker = state.in_flight.complete(id, outcome);
        let left = state.leaving && state.in_flight.sent() == 0;
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        if left {
            self.outgoing.notify_one();
        }
    }

    fn fail_sent(&self, cause: &TransportError) {
        let cause = cause.to_string();
        let lost = |ran| {
            RpcError::new(ErrorKind::Disconnected, ran, "the connection was lost").with_source(cause.clone())
        };
        let wakers = self.lock().in_flight.fail_sent(lost);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn fail_all(&self, message: &str) {
        let mut state = self.lock();
        state.closing = true;
        let wakers =
            state.in_flight.fail_all(|ran| RpcError::new(ErrorKind::Disconnected, ran, message.to_owned()));
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

fn request_too_large(size: usize, whose: &str, limit: usize) -> RpcError {
    let message = format!("the request has {size} bytes, and the {whose}'s max_message_size is {limit}");
    RpcError::new(ErrorKind::TooLarge { size, limit }, Ran::No, message)
}
