//! The calls of a client, from submission until the caller has taken the outcome. This module
//! routes each call to a link, and handles tries that fail.
//!
//! A call waits for capacity, then in the queue of a link, and then for its reply. If there is no
//! link, the call waits among the unrouted calls. A call that is to be retried backs off, and is
//! then routed once more.
//!
//! This code does no I/O, reads no clock and takes no lock: the owner passes the current time.
//! Methods add the tasks that must be woken to a list. The owner wakes them once it has released
//! its lock.

pub(crate) mod capacity;
mod endpoints;
pub(crate) mod flows;
pub(crate) mod retry;
mod route;
mod slot;
pub(crate) mod streams;
mod timeouts;
mod transmit;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::Arc,
    task::Waker,
    time::Instant,
};

use self::{
    capacity::{Capacity, WhenFull},
    retry::RetryBudget,
    slot::{CallState, History, Slot},
};
use crate::{
    client::{
        balancer::{Balancer, LinkId},
        balancing::Balancing,
        endpoints::EndpointState,
        status::SourceStatus,
    },
    error::{ErrorKind, Ran, RpcError},
    protocol::{MsgId, control::Capabilities},
    util::{slab::Slab, wakers::Wakers},
};

pub(crate) use self::{
    slot::{CallKind, NewCall, Next, Outcome, Reply},
    transmit::{LinkProgress, Transmit},
};

/// The calls of one client.
#[derive(Debug)]
pub(crate) struct Calls {
    slots: Slab<Slot>,
    pub(crate) balancer: Balancer,
    endpoints: Vec<Arc<EndpointState>>,
    sources: Vec<SourceStatus>,
    capacity: Capacity,
    /// The calls that wait for capacity. The callers bound this queue, because each of them holds
    /// the arguments of its own call.
    waiting: VecDeque<MsgId>,
    /// The calls that wait for a link, or for room in the window of a link. This queue is never
    /// full, because the calls in it have capacity. [`prune`](Self::prune) bounds the number of
    /// ended calls in it.
    unrouted: VecDeque<MsgId>,
    /// The calls that wait for a link to the server that may have their reply. It is bounded like
    /// `unrouted`.
    bound: VecDeque<MsgId>,
    /// The calls that back off, by the time of their retry. It is bounded like `unrouted`.
    backoffs: BinaryHeap<Reverse<(Instant, MsgId)>>,
    budget: RetryBudget,
    /// The number of retries that were made.
    retries: u64,
    /// The time at which the budget allows the next retry. `None` unless the budget was spent.
    budget_at: Option<Instant>,
    /// A lower bound of all deadlines.
    next_deadline: Option<Instant>,
    random: fastrand::Rng,
    /// The waker of the timer task, which is woken when the next timeout becomes earlier.
    timer: Option<Waker>,
}

impl Calls {
    pub(crate) fn new(capacity: Capacity, balancing: Balancing, mut random: fastrand::Rng) -> Self {
        Self {
            slots: Slab::new(),
            balancer: Balancer::new(balancing, random.fork()),
            endpoints: Vec::new(),
            sources: Vec::new(),
            capacity,
            waiting: VecDeque::new(),
            unrouted: VecDeque::new(),
            bound: VecDeque::new(),
            backoffs: BinaryHeap::new(),
            budget: RetryBudget::new(),
            retries: 0,
            budget_at: None,
            next_deadline: None,
            random,
            timer: None,
        }
    }

    /// Submits a call, and returns its id. The caller must pass the id to
    /// [`poll_outcome`](Self::poll_outcome) until that returns the outcome, or to
    /// [`cancel`](Self::cancel). The call may have an outcome already.
    pub(crate) fn submit(
        &mut self,
        call: NewCall,
        waker: &Waker,
        now: Instant,
        wakers: &mut Wakers,
    ) -> Result<MsgId, RpcError> {
        let (len, deadline) = (call.message.len(), call.deadline);
        let fits = self.waiting.is_empty() && self.capacity.fits(call.needs());
        if !fits && self.capacity.when_full == WhenFull::Fail {
            return Err(self.full());
        }
        self.budget.deposit();
        let id = self.insert(call, CallState::AwaitsCapacity, waker.clone());
        if self.next_deadline.is_none_or(|next| deadline < next) {
            self.next_deadline = Some(deadline);
            wakers.extend(self.timer.take());
        }
        if fits {
            self.enter(id, len, now, wakers);
        } else {
            self.waiting.push_back(id);
        }
        Ok(id)
    }

    fn insert(&mut self, call: NewCall, state: CallState, waker: Waker) -> MsgId {
        MsgId(self.slots.insert(Slot {
            call,
            state,
            waker,
            charged: None,
            stored: false,
            states_names: false,
            history: None,
        }))
    }

    /// Makes the error of a call for which there is no capacity.
    fn full(&self) -> RpcError {
        let Capacity { calls, bytes, windows, max_calls, max_bytes, .. } = self.capacity;
        let bytes = bytes + windows;
        let message = format!(
            "{calls} calls with {bytes} bytes are in flight on this client, whose limits are \
             {max_calls} calls (max_in_flight) and {max_bytes} bytes (max_bytes_in_flight)"
        );
        RpcError::new(ErrorKind::Overloaded, Ran::No, message)
    }

    /// Gives a call of `len` bytes its capacity, and routes it.
    fn enter(&mut self, id: MsgId, len: usize, now: Instant, wakers: &mut Wakers) {
        self.capacity.acquire(len);
        if let Some(slot) = self.slots.get_mut(id.0) {
            slot.charged = Some(len);
            if let Some(flows) = &slot.call.flows {
                self.capacity.windows += flows.window();
            }
            self.route(id, now, wakers);
        }
    }

    /// Gives capacity to the calls that wait for it. To be called after
    /// [`poll_outcome`](Self::poll_outcome) or [`cancel`](Self::cancel) has released some.
    pub(crate) fn admit(&mut self, now: Instant, wakers: &mut Wakers) {
        while let Some(id) = self.waiting.front().copied() {
            let slot = self.slots.get_mut(id.0);
            let waits = slot.filter(|slot| matches!(slot.state, CallState::AwaitsCapacity));
            let call = waits.map(|slot| &slot.call);
            let len = call.map(|call| call.message.len());
            if call.is_some_and(|call| !self.capacity.fits(call.needs())) {
                break;
            }
            self.waiting.pop_front();
            if let Some(len) = len {
                self.enter(id, len, now, wakers);
            }
        }
    }

    /// Returns true if calls wait for capacity.
    pub(crate) fn is_full(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns an id that no call has, for a request of the client itself.
    pub(crate) fn skip_id(&mut self) -> MsgId {
        MsgId(self.slots.skip_id())
    }

    /// Submits a ping that is sent on `link` only, and that needs no capacity. Returns `None` if
    /// the link has ended.
    pub(crate) fn submit_ping(
        &mut self,
        link: LinkId,
        ping: NewCall,
        wakers: &mut Wakers,
    ) -> Option<MsgId> {
        self.balancer.find(link)?;
        let id = self.insert(ping, CallState::Queued, Waker::noop().clone());
        self.balancer.find(link)?.push(id, wakers);
        Some(id)
    }

    /// Takes the outcome of a call, if there is one. Otherwise, `waker` will be woken once there
    /// is.
    ///
    /// The previous waker is moved to `old`. The owner drops it once it has released its lock,
    /// because dropping a waker may run foreign code.
    pub(crate) fn poll_outcome(
        &mut self,
        id: MsgId,
        waker: &Waker,
        old: &mut Option<Waker>,
    ) -> Option<Outcome> {
        const OWNED: &str = "a call's slot stays until the call takes its outcome or is dropped";
        let slot = self.slots.get_mut(id.0).expect(OWNED);
        if matches!(slot.state, CallState::Done(_)) {
            return match self.remove(id).expect(OWNED).state {
                CallState::Done(outcome) => Some(outcome),
                _ => None,
            };
        }
        if !slot.waker.will_wake(waker) {
            *old = Some(std::mem::replace(&mut slot.waker, waker.clone()));
        }
        None
    }

    /// Removes a call, and releases its capacity.
    fn remove(&mut self, id: MsgId) -> Option<Slot> {
        let slot = self.slots.remove(id.0)?;
        if let Some(bytes) = slot.charged {
            self.capacity.release(bytes);
        }
        if let Some(flows) = &slot.call.flows {
            self.capacity.bytes -= flows.unsent();
            self.capacity.windows -= slot.charged.map_or(0, |_| flows.window());
        }
        Some(slot)
    }

    /// Ends a call that has failed and is not retried. The `ran` of its error covers all of its
    /// tries.
    fn fail(&mut self, id: MsgId, mut error: RpcError, wakers: &mut Wakers) {
        let Some(slot) = self.slots.get_mut(id.0) else { return };
        if let Some(history) = &slot.history {
            if history.maybe_ran {
                error = error.or_earlier_try();
            }
            error = error.after_retries(history.retries);
            let tries = if history.retries == 1 { "try" } else { "tries" };
            error = error.and(format_args!(
                "{} earlier {tries} failed, the last one at {}: {}",
                history.retries,
                history.endpoint.name,
                history.error.reason(),
            ));
        }
        if error.endpoint().is_empty() {
            error = match &slot.history {
                Some(history) => error.at(&history.endpoint.name),
                None => error.at(&names(&self.endpoints, &self.sources).into()),
            };
        }
        Self::end(slot, Err(error), &mut self.capacity, wakers);
    }

    /// Ends a call with its outcome. Every call ends here, except cancelled ones.
    fn end(slot: &mut Slot, outcome: Outcome, capacity: &mut Capacity, wakers: &mut Wakers) {
        slot.call.message.clear();
        if let Some(charged) = &mut slot.charged {
            let bytes = outcome.as_ref().map_or(0, |reply| reply.body.len());
            capacity.bytes = capacity.bytes - *charged + bytes;
            *charged = bytes;
        }
        slot.state = CallState::Done(outcome);
        wakers.push(std::mem::replace(&mut slot.waker, Waker::noop().clone()));
    }

    /// Removes a call whose caller has dropped it, and cancels it on its server. The waker of the
    /// caller is moved to `old`, as by [`poll_outcome`](Self::poll_outcome).
    pub(crate) fn cancel(&mut self, id: MsgId, old: &mut Option<Waker>, wakers: &mut Wakers) {
        let Some(slot) = self.remove(id) else { return };
        *old = Some(slot.waker);
        match slot.state {
            CallState::Sent(link) => {
                self.abandon(link, id, slot.call.kind, slot.charged.unwrap_or(0), wakers);
            }
            CallState::Done(_) => {}
            CallState::AwaitsCapacity | CallState::Queued | CallState::BacksOff => self.prune(),
        }
    }

    /// Stops waiting for the reply to a call of `bytes` that was sent, and queues its cancel if the
    /// peer supports that.
    fn abandon(
        &mut self,
        link: LinkId,
        id: MsgId,
        kind: CallKind,
        bytes: usize,
        wakers: &mut Wakers,
    ) {
        let Some(link) = self.balancer.find(link) else { return };
        link.handle_end(bytes, wakers);
        if kind == CallKind::Request && link.peer.capabilities.contains(Capabilities::CANCEL) {
            link.cancels.push_back(id);
        }
        link.wake_sender(wakers);
    }

    /// Removes ended calls from each queue in which they are the majority. While there is no
    /// connection, nothing else removes them.
    fn prune(&mut self) {
        let most = 2 * self.slots.len() + 64;
        let slots = &mut self.slots;
        let mut is_alive = |id: &MsgId| slots.get_mut(id.0).is_some();
        let links = self.balancer.iter_mut().map(|link| &mut link.queue);
        let own = [&mut self.waiting, &mut self.unrouted, &mut self.bound];
        for queue in own.into_iter().chain(links) {
            if queue.len() > most {
                queue.retain(&mut is_alive);
            }
        }
        if self.backoffs.len() > most {
            self.backoffs.retain(|Reverse((_, id))| is_alive(id));
        }
    }

    /// Ends every call, because the client is closed.
    pub(crate) fn fail_all(&mut self, message: &str, wakers: &mut Wakers) {
        let mut open = Vec::new();
        for (id, slot) in self.slots.iter_mut() {
            match slot.state {
                CallState::Sent(_) => open.push((MsgId(id), Ran::Maybe, slot.progress())),
                CallState::Done(_) => {}
                _ => open.push((MsgId(id), Ran::No, None)),
            }
        }
        for (id, ran, progress) in open {
            let mut error = RpcError::new(ErrorKind::Disconnected, ran, message);
            if let Some(progress) = progress {
                error = error.and(progress).has_run();
            }
            self.fail(id, error, wakers);
        }
    }
}

/// Makes the error of a request of `size` bytes that exceeds the `limit` of the client or the
/// server, as stated by `whose`.
pub(crate) fn request_too_large(size: usize, whose: &str, limit: usize) -> RpcError {
    let message =
        format!("the request has {size} bytes, and the {whose}'s max_message_size is {limit}");
    RpcError::new(ErrorKind::TooLarge { size, limit }, Ran::No, message)
}

/// Returns the names of endpoints, or if there is none, of their sources, for errors that concern
/// all of them.
fn names(endpoints: &[Arc<EndpointState>], sources: &[SourceStatus]) -> String {
    let names = endpoints.iter().map(|endpoint| &*endpoint.name);
    let sources = sources.iter().filter(|_| endpoints.is_empty());
    names.chain(sources.map(|source| &*source.source)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
