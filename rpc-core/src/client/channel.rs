//! What a client, its calls and its tasks share: callers put calls in and take outcomes out; the
//! tasks below own the sockets, keep the endpoints connected, and keep the time.

mod endpoint;
mod link;

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time,
};

use crate::{
    args::EncodedArgs,
    client::{
        in_flight::{InFlight, NewCall, Outcome, Outgoing, Want, request_too_large},
        links::{LinkId, Peer},
        retry::Rules,
        room::Room,
        status::ClientStatus,
    },
    endpoint::Endpoint,
    error::{ErrorKind, Ran, RpcError},
    io_thread::LINGER,
    message::MsgId,
    transport::Carrier,
};

/// How often deadlines and retries are looked at, at most. Calls may end this much late.
const TICK: Duration = Duration::from_millis(1);

/// How many replies are handed to their calls while the lock is held: few enough that who wants it
/// meanwhile does not go to sleep.
const AT_ONCE: usize = 32;

#[derive(Debug)]
pub(crate) struct Channel {
    endpoints: Vec<Arc<str>>,
    carrier: Carrier,
    max_silence: Duration,
    state: Mutex<State>,
    /// The next deadline or retry is earlier than it was.
    clock: Arc<Notify>,
    /// What came of connecting: a link, which stays true; or why no endpoint had one in time.
    first: watch::Sender<Option<Result<(), Arc<str>>>>,
    /// How many endpoints had no link in time.
    without: AtomicUsize,
    /// Set when what is queued is to be sent, and nothing more awaited.
    closing: watch::Sender<bool>,
    /// Set when the tasks have ended.
    ended: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    in_flight: InFlight,
    /// New calls are refused.
    closing: bool,
}

impl Channel {
    pub(crate) fn new(
        endpoints: Vec<Arc<str>>,
        room: Room,
        carrier: Carrier,
        max_silence: Duration,
    ) -> Arc<Self> {
        let in_flight = InFlight::new(&endpoints, room, fastrand::Rng::new());
        let clock = Arc::clone(&in_flight.clock);
        Arc::new(Self {
            endpoints,
            carrier,
            max_silence,
            state: Mutex::new(State { in_flight, closing: false }),
            clock,
            first: watch::Sender::new(None),
            without: AtomicUsize::new(0),
            closing: watch::Sender::new(false),
            ended: watch::Sender::new(false),
        })
    }

    /// As they were given.
    pub(crate) fn endpoints(&self) -> &[Arc<str>] {
        &self.endpoints
    }

    pub(crate) fn status(&self) -> ClientStatus {
        self.lock().in_flight.status(Instant::now())
    }

    /// Waits until there has been a link, or none came in time, and tells why.
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

    /// Does something with the calls, and wakes those who wait for what came of it.
    fn with_calls(&self, change: impl FnOnce(&mut InFlight) -> Vec<Waker>) {
        let wakers = change(&mut self.lock().in_flight);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Takes a call in. Its id is to be given to [`poll`](Self::poll) until that has an outcome, or
    /// to [`cancel`](Self::cancel).
    pub(crate) fn submit(
        &self,
        args: EncodedArgs,
        want: Want,
        rules: Rules,
        deadline: Instant,
        waker: &Waker,
        now: Instant,
    ) -> Result<MsgId, RpcError> {
        let message = args.finish().map_err(|cause| {
            RpcError::new(ErrorKind::BadArguments, Ran::No, "the arguments cannot be encoded")
                .with_source(cause)
        })?;
        let limit = self.carrier.max_message_size;
        if message.len() > limit {
            return Err(request_too_large(message.len(), "client", limit));
        }
        let mut state = self.lock();
        if state.closing {
            return Err(RpcError::new(ErrorKind::ShuttingDown, Ran::No, "this client was closed"));
        }
        let (id, ended) =
            state.in_flight.submit(NewCall { message, want, rules, deadline }, waker, now)?;
        drop(state);
        ended.into_iter().for_each(Waker::wake);
        Ok(id)
    }

    pub(crate) fn poll(&self, id: MsgId, waker: &Waker) -> Poll<Outcome> {
        let mut old = None;
        let mut state = self.lock();
        let outcome = state.in_flight.poll(id, waker, &mut old);
        if outcome.is_some() {
            give_room(state);
        } else {
            drop(state);
        }
        outcome.map_or(Poll::Pending, Poll::Ready)
    }

    pub(crate) fn cancel(&self, id: MsgId) {
        let mut waker = Waker::noop().clone();
        let mut state = self.lock();
        state.in_flight.cancel(id, &mut waker);
        give_room(state);
    }

    /// Does what is due at `now`, if that is given, and tells when there will be something to do
    /// next.
    pub(crate) fn tick(&self, now: Option<Instant>) -> Option<Instant> {
        let mut state = self.lock();
        let wakers = now.map(|now| state.in_flight.tick(now)).unwrap_or_default();
        let next = state.in_flight.next_tick();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        next
    }

    /// Refuses new calls; the tasks end when the servers have read what was sent, or within
    /// [`LINGER`].
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.closing.send_replace(true);
    }

    /// Waits until the tasks have ended.
    pub(crate) async fn ended(&self) {
        // An error would mean that the sender has gone, and `self` holds it.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// Completes when the channel closes.
    async fn closing(&self) {
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Notes what came of connecting, if that is not known yet.
    fn settle(&self, outcome: Result<(), Arc<str>>) {
        self.first.send_if_modified(|first| {
            let news = first.is_none();
            if news {
                *first = Some(outcome);
            }
            news
        });
    }

    /// An endpoint had no link in time.
    fn gave_up(&self) {
        if self.without.fetch_add(1, Ordering::AcqRel) + 1 == self.endpoints.len() {
            let reasons = self.lock().in_flight.why_no_link().unwrap_or_default();
            self.settle(Err(reasons.into()));
        }
    }

    fn link_up(&self, endpoint: usize, peer: Peer, wake: &Arc<Notify>) -> LinkId {
        let mut state = self.lock();
        let (id, wakers) =
            state.in_flight.link_up(endpoint, peer, Arc::clone(wake), Instant::now());
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        self.settle(Ok(()));
        id
    }

    fn link_failed(&self, endpoint: usize, cause: &str) {
        self.with_calls(|calls| calls.link_failed(endpoint, cause.into(), Instant::now()));
    }

    fn link_down(&self, id: LinkId, cause: &str) {
        let lost = || {
            let message = "the connection was lost";
            RpcError::new(ErrorKind::Disconnected, Ran::Maybe, message)
                .with_source(cause.to_owned())
        };
        self.with_calls(|calls| calls.link_down(id, &cause.into(), lost, Instant::now()));
    }

    fn leave(&self, link: LinkId) {
        self.with_calls(|calls| calls.leave(link, Instant::now()));
    }

    /// Ends calls, some at a time: callers on other threads want the lock as well.
    fn complete(
        &self,
        link: LinkId,
        replies: impl Iterator<Item = (MsgId, Bytes)>,
        wakers: &mut Vec<Waker>,
    ) {
        let mut replies = replies.peekable();
        while replies.peek().is_some() {
            let some = replies.by_ref().take(AT_ONCE);
            let mut state = self.lock();
            wakers.extend(some.filter_map(|(id, body)| state.in_flight.complete(link, id, body)));
            drop(state);
            wakers.drain(..).for_each(Waker::wake);
        }
    }

    fn fail(&self, link: LinkId, id: MsgId, error: RpcError) {
        self.with_calls(|calls| calls.fail(link, id, error, Instant::now()));
    }

    /// Moves what is to be sent next to `out`.
    fn take(&self, link: LinkId, max: usize, now: Instant, out: &mut Vec<Outgoing>) -> Progress {
        let mut state = self.lock();
        let wakers = state.in_flight.take(link, max, now, out);
        let progress = state.in_flight.links.find(link).map_or(Progress::default(), |link| {
            Progress { leaving: link.leaving, awaits: link.sent > 0 }
        });
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        progress
    }

    /// Whether something waits to be sent on a link.
    fn has_outgoing(&self, link: LinkId) -> bool {
        self.lock().in_flight.links.find(link).is_some_and(|link| link.has_outgoing())
    }

    /// Whether replies are awaited on a link.
    fn awaits(&self, link: LinkId) -> bool {
        self.lock().in_flight.links.find(link).is_some_and(|link| link.sent > 0)
    }

    /// A link owes an answer: it is asked for one.
    fn ping(&self, link: LinkId) {
        self.lock().in_flight.links.ping(link);
    }

    /// Waits until the server has read everything that was sent on a link, or [`LINGER`] has
    /// passed.
    async fn flush(&self, link: LinkId) {
        let deadline = Instant::now() + LINGER;
        let args = EncodedArgs::dynamic("rpc.ping".to_owned(), &());
        let Ok(message) = args.finish() else { return };
        let rules = Rules { idempotent: false, retries: 0, fail_fast: true, key: None };
        let ping = NewCall { message, want: Want::Reply, rules, deadline };
        let Some(id) = self.lock().in_flight.submit_ping(link, ping) else { return };
        let answered = poll_fn(|cx| self.poll(id, cx.waker()));
        // The outcome does not matter: either way there is nothing more to wait for.
        let _ = time::timeout_at(deadline.into(), answered).await;
    }

    fn fail_all(&self, message: &str) {
        let mut state = self.lock();
        state.closing = true;
        let wakers = state.in_flight.fail_all(message);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A call has left: somebody may be waiting for its room.
fn give_room(mut state: MutexGuard<'_, State>) {
    if !state.in_flight.is_full() {
        return;
    }
    let wakers = state.in_flight.admit(Instant::now());
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
}

/// How far a link has come.
#[derive(Debug, Default)]
struct Progress {
    leaving: bool,
    /// Replies are awaited.
    awaits: bool,
}

/// Held by a channel's task, and dropped with it, also if its runtime ends before it has run at
/// all: nobody waits for a channel whose task has gone.
pub(crate) struct EndCalls(pub(crate) Arc<Channel>);

impl Drop for EndCalls {
    fn drop(&mut self) {
        let Self(channel) = self;
        channel.fail_all("the client was closed, or its runtime ended");
        channel.settle(Err("its runtime has ended".into()));
        channel.ended.send_replace(true);
    }
}

/// Keeps every endpoint connected, and the time, until the channel is closed.
pub(crate) async fn run(
    end_calls: EndCalls,
    endpoints: Vec<Endpoint>,
    connect_by: Option<Instant>,
) {
    let channel = &end_calls.0;
    let mut clock = JoinSet::new();
    clock.spawn(keep_time(Arc::clone(channel)));
    let mut connecting = JoinSet::new();
    for (index, endpoint) in endpoints.into_iter().enumerate() {
        connecting.spawn(endpoint::keep_connected(
            Arc::clone(channel),
            index,
            endpoint,
            connect_by,
        ));
    }
    while connecting.join_next().await.is_some() {}
}

/// Ends calls whose deadline has passed, whatever state the links are in, and makes retries that
/// are due.
async fn keep_time(channel: Arc<Channel>) {
    let mut looked_at = None;
    loop {
        let next = channel.tick(looked_at);
        let earliest = looked_at.map(|looked_at| looked_at + TICK);
        looked_at = None;
        let Some(next) = next else {
            channel.clock.notified().await;
            continue;
        };
        tokio::select! {
            () = time::sleep_until(earliest.map_or(next, |earliest| next.max(earliest)).into()) => {
                looked_at = Some(Instant::now());
            }
            () = channel.clock.notified() => {}
        }
    }
}
