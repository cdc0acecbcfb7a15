//! The event loop of a listener. It receives messages and completions, watches deadlines, and sends
//! messages.
//!
//! The loop runs no user code other than inline functions, and never waits for a peer.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{self, Sleep},
};

use crate::{
    protocol::batch,
    server::{
        completion::{Completion, CompletionQueue, POLL_INTERVAL, Ticket},
        dispatch::{Dispatcher, Outbound},
        egress::Egress,
        executor::Executor,
    },
    transport::{Event, Listener, ReplyTo},
    util::yield_budget::YieldBudget,
};

/// The number of outbound messages after which the loop sends them before it handles another
/// message.
const MAX_OUTBOUND: usize = 256;
/// The number of outbound bytes with the same effect.
const MAX_OUTBOUND_BYTES: usize = 16 * 1024;
/// The shortest interval between two checks of the deadlines. Calls may time out late by this
/// interval.
const DEADLINE_TICK: Duration = Duration::from_millis(1);
/// The time for which a drained listener without sessions still answers messages. Clients that
/// never sent `rpc.hello` may have had messages on the way.
const LAST_MESSAGES: Duration = Duration::from_millis(20);
/// The time for which a drained listener with sessions still answers messages. The clients were
/// sent a go-away, and disconnect when they have all their replies. Some of them never disconnect,
/// because they are behind a proxy or hang. The time is short, because nobody should wait long for
/// a server to stop.
const LAST_SESSIONS: Duration = Duration::from_secs(1);

/// The stage in the lifecycle of a server. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    /// New requests are started.
    Serving,
    /// New requests are refused, except those that cross the go-away. Functions in flight may end.
    Draining,
    /// Functions in flight are given up.
    Stopped,
}

/// The event loop of one listener.
pub(crate) struct EventLoop {
    listener: Box<dyn Listener>,
    dispatcher: Dispatcher<Executor>,
    completions: CompletionQueue,
    egress: Egress,
    lifecycle: watch::Receiver<Lifecycle>,
    /// The completions that were taken from the queue and not handled yet.
    taken: VecDeque<Completion>,
    /// The messages to send.
    out: Vec<Outbound>,
    /// The bytes in `out` that [`handle_message`](Self::handle_message) has added since the last
    /// flush.
    out_bytes: usize,
    budget: YieldBudget,
    /// The time of the last check of the deadlines.
    swept_at: Instant,
    /// The time at which the loop polls for completions without a notification.
    poll_at: Option<Instant>,
    /// The time at which the draining listener became idle. `None` while functions are in flight.
    idle_since: Option<Instant>,
}

impl EventLoop {
    pub(crate) fn new(
        listener: Box<dyn Listener>,
        dispatcher: Dispatcher<Executor>,
        completions: CompletionQueue,
        lifecycle: watch::Receiver<Lifecycle>,
    ) -> Self {
        Self {
            listener,
            dispatcher,
            completions,
            egress: Egress::default(),
            lifecycle,
            taken: VecDeque::new(),
            out: Vec::new(),
            out_bytes: 0,
            budget: YieldBudget::default(),
            swept_at: Instant::now(),
            poll_at: None,
            idle_since: None,
        }
    }

    /// Runs until the listener has drained or the server stops.
    pub(crate) async fn run(mut self) {
        let mut timer = pin!(time::sleep(Duration::ZERO));
        // True if the turn before was one of completions. Streams may go on faster than they are
        // sent, so that there are always completions.
        let mut completed = false;
        loop {
            let has_timeout = self.set_timer(timer.as_mut());
            let drained_at = self.drained_at();
            // False after listener events: they are polled last, so no other event was ready.
            let mut more = true;
            // The order matters: events that release capacity come before events that need it.
            tokio::select! {
                biased;
                // An error means that the server handle was dropped.
                changed = self.lifecycle.changed() => {
                    let stage = match changed {
                        Ok(()) => *self.lifecycle.borrow_and_update(),
                        Err(_) => Lifecycle::Stopped,
                    };
                    if stage == Lifecycle::Stopped {
                        return self.stop().await;
                    }
                    let functions = self.dispatcher.running();
                    tracing::info!(?functions, "the server drains, and waits for what still runs");
                    self.listener.stop_accepting();
                    self.dispatcher.drain(Instant::now(), &mut self.out);
                }
                () = timer.as_mut(), if has_timeout => self.handle_timeout(Instant::now()),
                () = sleep_until(drained_at) => return self.settle().await,
                () = self.completions.recv(&mut self.taken) => {
                    let now = Instant::now();
                    self.handle_completions(now);
                    if mem::replace(&mut completed, true)
                        && let Poll::Ready(event) = self.listener.poll_recv(&mut noop())
                    {
                        self.handle_events(event, now);
                    }
                }
                event = self.listener.recv() => {
                    self.handle_events(event, Instant::now());
                    (more, completed) = (false, false);
                }
            }
            self.dispatcher.divide_windows();
            self.flush();
            // The tasks of the engine share this thread. They should write the queued messages
            // early, so that the peer works at the same time. If there are no more events, they run
            // while this task sleeps.
            if more || self.budget.is_spent() {
                self.budget.yield_now().await;
            }
        }
    }

    /// Sets the timer for the next timeout. Returns false if there is none.
    fn set_timer(&self, mut timer: Pin<&mut Sleep>) -> bool {
        let Some(next) = self.next_timeout().map(time::Instant::from) else { return false };
        // Reset only if the timer has elapsed or would be too late, because a reset costs as much
        // as a call. A timer that is too early does no harm.
        if timer.is_elapsed() || next < timer.deadline() {
            timer.as_mut().reset(next);
        }
        true
    }

    /// Returns the time at which [`handle_timeout`](Self::handle_timeout) must be called next.
    fn next_timeout(&self) -> Option<Instant> {
        // Counted from the last check and not from now: a busy loop would postpone the check
        // forever.
        let earliest = self.swept_at + DEADLINE_TICK;
        let deadline = self.dispatcher.next_timeout().map(|next| next.max(earliest));
        let poll_at = self.poll_at.filter(|_| !self.dispatcher.is_idle());
        deadline.into_iter().chain(poll_at).min()
    }

    /// Returns the time at which the loop ends, even if messages still arrive. Returns `None`
    /// unless the listener drains and no function is in flight.
    fn drained_at(&mut self) -> Option<Instant> {
        if !self.dispatcher.is_draining() || !self.dispatcher.is_idle() {
            self.idle_since = None;
            return None;
        }
        let since = *self.idle_since.get_or_insert_with(Instant::now);
        let has_sessions = !self.dispatcher.sessions().is_empty();
        Some(since + if has_sessions { LAST_SESSIONS } else { LAST_MESSAGES })
    }

    /// Checks the deadlines. In its next iteration, the loop polls the completion queue too.
    fn handle_timeout(&mut self, now: Instant) {
        self.swept_at = now;
        self.poll_at = self.poll_at.filter(|at| *at > now);
        if self.dispatcher.next_timeout().is_some_and(|deadline| deadline <= now) {
            // Completions first: a function that has ended in time must not be reported as overdue.
            self.handle_completions_until(now);
            self.dispatcher.handle_timeout(now, &mut self.out);
        }
    }

    /// Handles the completions that were taken from the queue, until the yield budget is spent.
    fn handle_completions(&mut self, now: Instant) {
        while !self.budget.is_spent()
            && let Some(completion) = self.taken.pop_front()
        {
            let before = self.out.len();
            self.dispatcher.handle_completion(completion, now, &mut self.out);
            let bytes = self.out[before..].iter().map(|message| message.body.len()).sum();
            self.budget.add(1, bytes);
        }
        // Workers serve the peers round-robin, so that replies to different peers alternate.
        // Sorting brings the replies to each peer together, because a batch is for one client.
        if self.out.windows(2).any(|pair| pair[0].reply_to != pair[1].reply_to) {
            self.out.sort_by(|a, b| a.reply_to.peer().cmp(b.reply_to.peer()));
        }
        self.poll_at = Some(now + POLL_INTERVAL);
    }

    /// Handles all completions that are there `now`, including those without a notification. Streams
    /// go on meanwhile, so that there may be others then.
    fn handle_completions_until(&mut self, now: Instant) {
        for _ in 0..2 {
            while let Some(completion) = self.taken.pop_front() {
                self.dispatcher.handle_completion(completion, now, &mut self.out);
            }
            self.completions.try_recv(&mut self.taken);
        }
    }

    /// Handles an event, and all others that have arrived, until the yield budget is spent.
    fn handle_events(&mut self, event: Event, now: Instant) {
        self.handle_event(event, now);
        let mut cx = noop();
        while !self.budget.is_spent()
            && let Poll::Ready(event) = self.listener.poll_recv(&mut cx)
        {
            self.handle_event(event, now);
        }
        self.dispatcher.flush_executor(now);
        self.poll_at = Some(now + POLL_INTERVAL);
    }

    fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Body(reply_to, body) => self.handle_body(reply_to, &body, now),
            Event::Malformed(reply_to, reason) => {
                self.dispatcher.handle_malformed(reply_to, None, reason, now, &mut self.out);
                self.budget.add(1, 0);
            }
            Event::PeerGone(peer) => {
                self.dispatcher.handle_peer_gone(&peer, now);
                self.budget.add(1, 0);
            }
        }
    }

    /// Handles a body, which is a message or a batch. The messages after malformed bytes in a batch
    /// are lost.
    fn handle_body(&mut self, reply_to: ReplyTo, body: &Bytes, now: Instant) {
        let Some(messages) = batch::unpack(body) else {
            self.handle_message(reply_to, body, now);
            return self.budget.add(1, body.len());
        };
        let mut count = 0;
        for message in messages {
            count += 1;
            match message {
                Ok(message) => self.handle_message(reply_to.clone(), &message, now),
                Err(reason) => {
                    let reply_to = reply_to.clone();
                    self.dispatcher.handle_malformed(reply_to, None, reason, now, &mut self.out);
                }
            }
        }
        // An empty batch counts as one message, because it takes time too.
        self.budget.add(count.max(1), body.len());
    }

    /// Handles a message, and sends the outbound messages if there are many. Nothing else limits
    /// their number.
    fn handle_message(&mut self, reply_to: ReplyTo, body: &Bytes, now: Instant) {
        let before = self.out.len();
        self.dispatcher.handle_message(reply_to, body, now, &mut self.out);
        self.out_bytes += self.out[before..].iter().map(|out| out.body.len()).sum::<usize>();
        if self.out_bytes >= MAX_OUTBOUND_BYTES || self.out.len() >= MAX_OUTBOUND {
            self.flush();
        }
    }

    /// Sends all outbound messages.
    fn flush(&mut self) {
        self.out_bytes = 0;
        if self.out.is_empty() {
            return;
        }
        let lost = self.send();
        if !lost.is_empty() {
            for ticket in lost {
                self.dispatcher.handle_lost_part(ticket, Instant::now(), &mut self.out);
            }
            // The calls have ended, so that nothing of them is lost again.
            self.send();
        }
    }

    /// Sends all outbound messages. Returns the requests of which a part was dropped.
    fn send(&mut self) -> Vec<Ticket> {
        let (sessions, quota) = self.dispatcher.sessions_and_quota();
        let (listener, budget) = (&mut *self.listener, &mut self.budget);
        self.egress.send(&mut self.out, sessions, quota, listener, budget)
    }

    /// Waits until a carrier that stores messages has taken the last replies.
    async fn settle(mut self) {
        let settled = poll_fn(|cx| self.listener.poll_settled(cx));
        if time::timeout(LAST_SESSIONS, settled).await.is_err() {
            tracing::warn!("the last replies were not confirmed in time, and may be made again");
        }
    }

    /// Gives up the functions in flight, and answers their callers. A carrier that stores messages
    /// gets their requests back instead.
    async fn stop(mut self) {
        let functions = self.dispatcher.running();
        if !functions.is_empty() {
            tracing::warn!(?functions, "the server stops, and gives up what still runs");
        }
        // What has just ended is answered, and not run again.
        self.handle_completions_until(Instant::now());
        self.flush();
        let given_back = self.listener.give_back();
        self.dispatcher.abort_all(Instant::now(), &mut self.out);
        // Requests that waited for a call with an idempotency key now have a completion in the
        // queue. Streams do not go on any more.
        loop {
            self.handle_completions_until(Instant::now());
            if self.taken.is_empty() {
                break;
            }
        }
        if given_back {
            self.out.clear();
        }
        self.flush();
        self.settle().await;
    }
}

/// Returns the context in which a poll only looks.
fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Waits until `moment`, or forever if it is `None`.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
