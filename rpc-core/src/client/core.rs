//! The core of a client: the state that the client, its calls and its tasks share.
//!
//! Callers submit calls and take outcomes. The tasks in the submodules own the sockets, keep the
//! endpoints connected, and end calls at their deadlines.

pub(crate) mod connect;
mod connecting;
pub(crate) mod link;
mod received;
pub(crate) mod run;
mod silence;
mod streams;

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use tokio::{sync::watch, time};

use crate::{
    client::{
        balancer::LinkId,
        calls::{
            CallKind, Calls, LinkProgress, NewCall, Outcome, Transmit, capacity::WhenFull,
            request_too_large, retry::CallPolicy,
        },
        config::ClientConfig,
        endpoints::EndpointState,
        status::ClientStatus,
    },
    error::{ErrorKind, Ran, RpcError},
    function::Signature,
    protocol::{
        MsgId,
        control::{self, PeerInfo, Window},
    },
    transport::TransportConfig,
    util::{home_process::HomeProcess, io_thread::LINGER, wakers::Wakers},
};

/// The shortest interval between two checks whether the process was forked. A check is a system call,
/// which takes longer than many calls.
const PROCESS_CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// The core of a client: its calls behind a lock, and the stages of its life cycle.
#[derive(Debug)]
pub(crate) struct ClientCore {
    home: HomeProcess,
    pub(crate) transport: TransportConfig,
    pub(crate) keepalive_timeout: Duration,
    /// The functions that every server must have.
    pub(crate) expected: Vec<&'static Signature>,
    /// True if the client keeps to the windows of its servers. Otherwise they refuse what they do
    /// not take.
    pub(crate) takes_windows: bool,
    state: Mutex<State>,
    /// The outcome of connecting: `Ok` if there was a link, or the reasons why no endpoint had one
    /// in time. `None` until it is known.
    connected: watch::Sender<Option<Result<(), Arc<str>>>>,
    /// True once the client closes: the tasks send what is queued, and then end.
    closing: watch::Sender<bool>,
    /// True once the tasks have ended.
    ended: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    calls: Calls,
    /// The time at which the next call makes sure that the process was not forked.
    check_process_at: Instant,
    /// True once new calls are refused.
    closing: bool,
}

impl ClientCore {
    /// Makes a client with `endpoints`, and with the sources of others that have these names.
    pub(crate) fn new(
        config: &ClientConfig,
        endpoints: &[Arc<EndpointState>],
        sources: impl IntoIterator<Item = Arc<str>>,
    ) -> Arc<Self> {
        let mut calls = Calls::new(config.capacity(), config.balancing, fastrand::Rng::new());
        for endpoint in endpoints {
            calls.insert_endpoint(endpoint);
        }
        for source in sources {
            calls.insert_source(source);
        }
        Arc::new(Self {
            home: HomeProcess::new(),
            transport: config.transport(),
            keepalive_timeout: config.keepalive_timeout(),
            expected: config.expected.clone(),
            takes_windows: config.when_full == WhenFull::Wait,
            state: Mutex::new(State { calls, check_process_at: Instant::now(), closing: false }),
            connected: watch::Sender::new(None),
            closing: watch::Sender::new(false),
            ended: watch::Sender::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds this lock. Even after a panic, the calls would be
        // consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock for a caller. Returns `None` in a fork of the process if another thread had the
    /// lock at that moment: it is not here, and never gives the lock back.
    fn lock_here(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
            Err(TryLockError::WouldBlock) if self.home.is_elsewhere() => None,
            Err(TryLockError::WouldBlock) => Some(self.lock()),
        }
    }

    /// Applies `change` to the calls, and then wakes the tasks that are concerned by it.
    fn with_calls<T>(&self, change: impl FnOnce(&mut Calls, &mut Wakers) -> T) -> T {
        let mut wakers = Wakers::default();
        let result = change(&mut self.lock().calls, &mut wakers);
        wakers.wake();
        result
    }

    pub(crate) fn status(&self) -> ClientStatus {
        let status = |state: MutexGuard<'_, State>| state.calls.status(Instant::now());
        self.lock_here().map(status).unwrap_or_default()
    }

    /// Returns the names of the endpoints.
    pub(crate) fn endpoints(&self) -> Vec<Arc<str>> {
        let Some(state) = self.lock_here() else { return Vec::new() };
        state.calls.endpoints().iter().map(|endpoint| Arc::clone(&endpoint.name)).collect()
    }

    /// Submits a call, and returns its id. The caller must pass the id to
    /// [`poll_outcome`](Self::poll_outcome) until that returns the outcome, or to
    /// [`cancel`](Self::cancel).
    pub(crate) fn submit(
        &self,
        call: NewCall,
        waker: &Waker,
        now: Instant,
    ) -> Result<MsgId, RpcError> {
        let (size, limit) = (call.message.len(), self.transport.max_message_size);
        if size > limit {
            return Err(request_too_large(size, "client", limit));
        }
        let mut wakers = Wakers::default();
        let Some(mut state) = self.lock_here() else { return Err(forked(Ran::No)) };
        if now >= state.check_process_at {
            state.check_process_at = now + PROCESS_CHECK_INTERVAL;
            if self.home.is_elsewhere() {
                return Err(forked(Ran::No));
            }
        }
        if state.closing {
            let message = "this client was closed";
            return Err(RpcError::new(ErrorKind::ShuttingDown, Ran::No, message));
        }
        let id = state.calls.submit(call, waker, now, &mut wakers);
        drop(state);
        wakers.wake();
        id
    }

    pub(crate) fn poll_outcome(&self, id: MsgId, waker: &Waker) -> Poll<Outcome> {
        let mut old = None;
        let Some(mut state) = self.lock_here() else {
            return Poll::Ready(Err(forked(Ran::Maybe)));
        };
        let outcome = state.calls.poll_outcome(id, waker, &mut old);
        if outcome.is_some() {
            admit(state);
        } else {
            drop(state);
        }
        match outcome {
            Some(outcome) => Poll::Ready(outcome),
            None if self.home.is_elsewhere() => Poll::Ready(Err(forked(Ran::Maybe))),
            None => Poll::Pending,
        }
    }

    /// Makes sure that the tasks of this client run in this process.
    ///
    /// # Errors
    /// Returns `Disconnected` in a fork of the process that has made the client.
    pub(crate) fn check_process(&self) -> Result<(), RpcError> {
        if self.home.is_elsewhere() { Err(forked(Ran::No)) } else { Ok(()) }
    }

    pub(crate) fn cancel(&self, id: MsgId) {
        let (mut old, mut wakers) = (None, Wakers::default());
        let Some(mut state) = self.lock_here() else { return };
        state.calls.cancel(id, &mut old, &mut wakers);
        admit(state);
        wakers.wake();
    }

    /// Handles the timeouts that are due at `now`, and returns the time of the next timeout.
    pub(crate) fn handle_timeout(&self, now: Option<Instant>) -> Option<Instant> {
        self.with_calls(|calls, wakers| {
            if let Some(now) = now {
                calls.handle_timeout(now, wakers);
            }
            calls.next_timeout()
        })
    }

    /// Returns the time of the next timeout, and wakes `timer` once this time becomes earlier.
    fn poll_timeout(&self, timer: &Waker) -> Option<Instant> {
        self.lock().calls.poll_timeout(timer)
    }

    /// Refuses new calls. The tasks end once the servers have read what was sent, or after
    /// [`LINGER`].
    pub(crate) fn close(&self) {
        let Some(mut state) = self.lock_here() else { return };
        state.closing = true;
        drop(state);
        self.closing.send_replace(true);
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Waits until the client closes.
    pub(crate) async fn closing(&self) {
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Waits until the tasks have ended.
    pub(crate) async fn ended(&self) {
        if self.home.is_elsewhere() {
            return;
        }
        // An error would mean that the sender was dropped, but `self` holds it.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// Ends every call, because the tasks have ended.
    fn end(&self) {
        self.lock().closing = true;
        let message = "the client was closed, or its runtime ended";
        self.with_calls(|calls, wakers| calls.fail_all(message, wakers));
        self.settle_connected(Err("its runtime has ended".into()));
        self.ended.send_replace(true);
    }

    fn link_up(&self, endpoint: &Arc<EndpointState>, peer: PeerInfo) -> LinkId {
        let now = Instant::now();
        let id = self.with_calls(|calls, wakers| calls.link_up(endpoint, peer, now, wakers));
        self.settle_connected(Ok(()));
        id
    }

    fn link_failed(&self, endpoint: &Arc<EndpointState>, cause: &str) {
        self.with_calls(|calls, wakers| {
            calls.link_failed(endpoint, cause, Instant::now(), wakers);
        });
    }

    fn link_down(&self, id: LinkId, cause: &str) {
        let lost = || {
            RpcError::new(ErrorKind::Disconnected, Ran::Maybe, "the connection was lost")
                .with_source(cause.to_owned())
        };
        self.with_calls(|calls, wakers| calls.link_down(id, cause, lost, Instant::now(), wakers));
    }

    fn handle_go_away(&self, link: LinkId) {
        self.with_calls(|calls, wakers| calls.handle_go_away(link, Instant::now(), wakers));
    }

    fn handle_window(&self, link: LinkId, window: Window) {
        self.with_calls(|calls, wakers| {
            calls.handle_window(link, window, Instant::now(), wakers);
        });
    }

    /// Moves the next messages of a link to `out`. See [`Calls::poll_transmit`].
    fn poll_transmit(
        &self,
        link: LinkId,
        max: usize,
        sender: &Waker,
        out: &mut Vec<Transmit>,
    ) -> LinkProgress {
        self.with_calls(|calls, wakers| {
            calls.poll_transmit(link, max, Instant::now, sender, out, wakers)
        })
    }

    /// Returns true if messages wait to be sent on a link.
    fn has_outgoing(&self, link: LinkId) -> bool {
        self.lock().calls.balancer.find(link).is_some_and(|link| link.has_outgoing())
    }

    /// Returns true if the server of a link is draining.
    fn is_draining(&self, link: LinkId) -> bool {
        self.lock().calls.balancer.find(link).is_some_and(|link| link.draining)
    }

    /// Returns true if replies are awaited on a link.
    fn awaits_replies(&self, link: LinkId) -> bool {
        self.lock().calls.balancer.find(link).is_some_and(|link| link.sent.calls > 0)
    }

    /// Sends a ping on a link.
    fn ping(&self, link: LinkId) {
        self.with_calls(|calls, wakers| calls.balancer.ping(link, wakers));
    }

    /// Returns an unused id, for a request of the client itself.
    fn skip_id(&self) -> MsgId {
        self.lock().calls.skip_id()
    }

    /// Waits until the server has read everything that was sent on a link, or for [`LINGER`].
    async fn flush(&self, link: LinkId) {
        let deadline = Instant::now() + LINGER;
        let Ok(message) = control::ping().finish() else { return };
        let policy = CallPolicy { idempotent: false, retries: 0, fail_fast: true, extras: None };
        let ping = NewCall {
            message,
            kind: CallKind::Request,
            policy,
            deadline,
            signature: Signature::UNKNOWN,
            flows: None,
        };
        let id = self.with_calls(|calls, wakers| calls.submit_ping(link, ping, wakers));
        let Some(id) = id else { return };
        let answered = poll_fn(|cx| self.poll_outcome(id, cx.waker()));
        // There is nothing more to wait for, whatever the outcome is.
        let _ = time::timeout_at(deadline.into(), answered).await;
    }
}

/// Makes the error of a client that is used in a fork of its process.
fn forked(ran: Ran) -> RpcError {
    let message = "this client was made before the process was forked, and its I/O thread is not here: \
                   make a client in the child";
    RpcError::new(ErrorKind::Disconnected, ran, message)
}

/// Gives the capacity that a call has released to the calls that wait for it.
fn admit(mut state: MutexGuard<'_, State>) {
    if !state.calls.is_full() && !state.calls.await_room() {
        return;
    }
    let (mut wakers, now) = (Wakers::default(), Instant::now());
    state.calls.fill_links(now, &mut wakers);
    state.calls.admit(now, &mut wakers);
    drop(state);
    wakers.wake();
}

#[cfg(test)]
mod tests;
