//! A client's calls, from the moment they are made until their caller has the outcome: which link
//! each goes to, and what becomes of it when that fails. No I/O, no clock, no lock: whoever owns it
//! says what time it is and wakes whom it names.
//!
//! A call waits for room, then in the queue of a link (or for a link, if there is none), then for
//! its reply; if it is to be tried again it rests, and goes to a link once more.

mod route;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::Arc,
    task::Waker,
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{
    args::Message,
    client::{
        links::{LinkId, Links},
        retry::{Budget, Rules},
        room::{Room, WhenFull},
        status::{ClientStatus, EndpointState, EndpointStatus},
    },
    error::{ErrorKind, Ran, RpcError},
    id_table::IdTable,
    message::MsgId,
};

pub(crate) use self::route::Outgoing;

/// Whether an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Reply,
    /// A notification: it is done when the socket has it.
    Nothing,
}

/// A call that is to be made.
#[derive(Debug)]
pub(crate) struct NewCall {
    pub(crate) message: Message,
    pub(crate) want: Want,
    pub(crate) rules: Rules,
    pub(crate) deadline: Instant,
}

/// What came of a call: the response, or why there is none.
pub(crate) type Outcome = Result<Reply, RpcError>;

/// A response, which may still tell of an error.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) body: Bytes,
    /// The index of the endpoint that it came from.
    pub(crate) endpoint: usize,
    /// An earlier try may have run, whatever the response says of the last.
    pub(crate) maybe_ran: bool,
}

#[derive(Debug)]
struct Slot {
    call: NewCall,
    state: State,
    waker: Waker,
    /// The bytes that count for this call: the request's, then the reply's. `None` until it has
    /// room.
    charged: Option<usize>,
    /// What came of earlier tries.
    history: Option<Box<History>>,
}

#[derive(Debug)]
enum State {
    /// As much is in flight as may be.
    WaitsForRoom,
    /// In a link's queue, or among those that wait for a link: it did not leave this process, in
    /// this try.
    Queued,
    /// It has failed, and will be tried again.
    Rests,
    /// The socket has it, or is about to.
    Sent(LinkId),
    Done(Outcome),
}

#[derive(Debug)]
struct History {
    retries: u32,
    /// A try was lost, and may have run.
    maybe_ran: bool,
    /// The last failure.
    error: RpcError,
    /// The endpoint it happened at.
    endpoint: usize,
    /// The server process that may remember the reply, for a call with an idempotency key that may
    /// have run.
    remembered_by: Option<Arc<str>>,
}

/// An endpoint, as far as calls are concerned.
#[derive(Debug)]
struct Place {
    name: Arc<str>,
    /// Why there is no link. `None` while there is one, or the first attempt is under way.
    failure: Option<Arc<str>>,
}

/// The calls of one client.
#[derive(Debug)]
pub(crate) struct InFlight {
    slots: IdTable<Slot>,
    pub(crate) links: Links,
    places: Vec<Place>,
    /// All endpoints, for errors that are about none of them.
    everywhere: Arc<str>,
    room: Room,
    /// Calls that wait for room. Bounded by the callers, each of which holds its own arguments
    /// anyway: it is never full.
    waiting: VecDeque<MsgId>,
    /// Calls that wait for a link. Like every queue here it holds calls that have room, so that it
    /// is never full, and no more that have ended than [`prune`](Self::prune) leaves.
    linkless: VecDeque<MsgId>,
    /// Calls that rest, and until when. Bounded as the others.
    resting: BinaryHeap<Reverse<(Instant, MsgId)>>,
    budget: Budget,
    /// How many retries were made.
    retries: u64,
    /// When there will be budget for the next retry, if there was none.
    budget_at: Option<Instant>,
    /// No call's deadline is earlier than this.
    next_deadline: Option<Instant>,
    random: fastrand::Rng,
    /// Told when [`next_tick`](Self::next_tick) has become earlier.
    pub(crate) clock: Arc<Notify>,
}

impl InFlight {
    pub(crate) fn new(endpoints: &[Arc<str>], room: Room, mut random: fastrand::Rng) -> Self {
        let place = |name: &Arc<str>| Place { name: Arc::clone(name), failure: None };
        Self {
            slots: IdTable::new(),
            links: Links::new(random.fork()),
            places: endpoints.iter().map(place).collect(),
            everywhere: endpoints.join(", ").into(),
            room,
            waiting: VecDeque::new(),
            linkless: VecDeque::new(),
            resting: BinaryHeap::new(),
            budget: Budget::new(),
            retries: 0,
            budget_at: None,
            next_deadline: None,
            random,
            clock: Arc::default(),
        }
    }

    /// Takes a call in. Its id is to be given to [`poll`](Self::poll) until that has an outcome, or
    /// to [`cancel`](Self::cancel). There is a waker to wake if it has an outcome already.
    pub(crate) fn submit(
        &mut self,
        call: NewCall,
        waker: &Waker,
        now: Instant,
    ) -> Result<(MsgId, Option<Waker>), RpcError> {
        let (len, deadline) = (call.message.len(), call.deadline);
        let has_room = self.waiting.is_empty() && self.room.fits(len);
        if !has_room && self.room.when_full == WhenFull::Fail {
            return Err(self.full());
        }
        self.budget.deposit();
        let state = State::WaitsForRoom;
        let slot = Slot { call, state, waker: waker.clone(), charged: None, history: None };
        let id = MsgId(self.slots.insert(slot));
        if self.next_deadline.is_none_or(|next| deadline < next) {
            self.next_deadline = Some(deadline);
            self.clock.notify_one();
        }
        if has_room {
            return Ok((id, self.enter(id, len, now)));
        }
        self.waiting.push_back(id);
        Ok((id, None))
    }

    fn full(&self) -> RpcError {
        let Room { calls, bytes, max_calls, max_bytes, .. } = self.room;
        let message = format!(
            "{calls} calls with {bytes} bytes are in flight on this client, whose limits are {max_calls} calls \
             (max_in_flight) and {max_bytes} bytes (max_bytes_in_flight)"
        );
        RpcError::new(ErrorKind::Overloaded, Ran::No, message)
    }

    fn enter(&mut self, id: MsgId, len: usize, now: Instant) -> Option<Waker> {
        self.room.enter(len);
        self.slots.get_mut(id.0)?.charged = Some(len);
        self.dispatch(id, now)
    }

    /// Gives room to those who wait for it, after a [`poll`](Self::poll) or
    /// [`cancel`](Self::cancel).
    pub(crate) fn admit(&mut self, now: Instant) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(id) = self.waiting.front().copied() {
            let waits =
                self.slots.get_mut(id.0).filter(|slot| matches!(slot.state, State::WaitsForRoom));
            let len = waits.map(|slot| slot.call.message.len());
            if len.is_some_and(|len| !self.room.fits(len)) {
                break;
            }
            self.waiting.pop_front();
            wakers.extend(len.and_then(|len| self.enter(id, len, now)));
        }
        wakers
    }

    /// Whether somebody waits for room.
    pub(crate) fn is_full(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// An id that no call has, for a message that the client sends on its own account.
    pub(crate) fn skip_id(&mut self) -> MsgId {
        MsgId(self.slots.skip_id())
    }

    /// Takes a ping in that goes to `link` and no other, and needs no room.
    pub(crate) fn submit_ping(&mut self, link: LinkId, ping: NewCall) -> Option<MsgId> {
        let link = self.links.find(link)?;
        let waker = Waker::noop().clone();
        let slot = Slot { call: ping, state: State::Queued, waker, charged: None, history: None };
        let id = MsgId(self.slots.insert(slot));
        link.push(id);
        Some(id)
    }

    /// Takes the outcome, if there is one; otherwise `waker` is woken when there is. The one that
    /// was here before is put into `old`, for the owner to drop where it holds no lock: that may
    /// run foreign code.
    pub(crate) fn poll(
        &mut self,
        id: MsgId,
        waker: &Waker,
        old: &mut Option<Waker>,
    ) -> Option<Outcome> {
        const OWNED: &str = "a call's slot stays until the call takes its outcome or is dropped";
        let slot = self.slots.get_mut(id.0).expect(OWNED);
        if matches!(slot.state, State::Done(_)) {
            return match self.remove(id).expect(OWNED).state {
                State::Done(outcome) => Some(outcome),
                _ => None,
            };
        }
        if !slot.waker.will_wake(waker) {
            *old = Some(std::mem::replace(&mut slot.waker, waker.clone()));
        }
        None
    }

    fn remove(&mut self, id: MsgId) -> Option<Slot> {
        let slot = self.slots.remove(id.0)?;
        if let Some(bytes) = slot.charged {
            self.room.leave(bytes);
        }
        Some(slot)
    }

    /// How the calls are doing, and the endpoints.
    pub(crate) fn status(&self, now: Instant) -> ClientStatus {
        let endpoints = self.places.iter().enumerate().map(|(index, place)| {
            let links = || self.links.iter().filter(|link| link.endpoint == index);
            let state = match links().find(|link| !link.leaving) {
                Some(link) if link.silent => EndpointState::Silent,
                Some(link) if link.resting_until.is_some_and(|until| until > now) => {
                    EndpointState::Overloaded
                }
                Some(_) => EndpointState::Connected,
                None => EndpointState::Connecting { reason: place.failure.clone() },
            };
            let calls = links().map(|link| link.sent).sum();
            EndpointStatus { endpoint: Arc::clone(&place.name), state, calls }
        });
        ClientStatus {
            endpoints: endpoints.collect(),
            calls: self.room.calls,
            bytes: self.room.bytes,
            waiting: self.slots.len().saturating_sub(self.room.calls),
            retries: self.retries,
        }
    }

    /// Why there is no link. `None` if there is one, or that is not known yet.
    pub(crate) fn why_no_link(&self) -> Option<String> {
        if self.links.iter().next().is_some() {
            return None;
        }
        let reason = |place: &Place| match (&place.failure, self.places.len()) {
            (Some(failure), 1) => Some(failure.to_string()),
            (Some(failure), _) => Some(format!("{}: {failure}", place.name)),
            (None, _) => None,
        };
        let reasons: Vec<_> = self.places.iter().filter_map(reason).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Adds why there is no link.
    fn explain(&self, error: RpcError) -> RpcError {
        match self.why_no_link() {
            Some(reasons) => error.with_source(reasons),
            None => error,
        }
    }

    /// Notes the outcome of a call that has failed for good. Its truth is that of all its tries.
    fn end(&mut self, id: MsgId, mut error: RpcError) -> Option<Waker> {
        let slot = self.slots.get_mut(id.0)?;
        if slot.history.as_ref().is_some_and(|history| history.maybe_ran) {
            error = error.after_a_try_that_may_have_run();
        }
        if error.endpoint().is_empty() {
            let history = slot.history.as_ref();
            let place =
                history.map_or(&self.everywhere, |history| &self.places[history.endpoint].name);
            error = error.at(place);
        }
        slot.call.message.clear();
        if let Some(charged) = &mut slot.charged {
            self.room.bytes -= std::mem::take(charged);
        }
        slot.state = State::Done(Err(error));
        Some(std::mem::replace(&mut slot.waker, Waker::noop().clone()))
    }

    /// Forgets a call whose caller has gone; its server is told. `waker` is swapped out, as by
    /// [`poll`](Self::poll).
    pub(crate) fn cancel(&mut self, id: MsgId, waker: &mut Waker) {
        let Some(slot) = self.remove(id) else { return };
        *waker = slot.waker;
        match slot.state {
            State::Sent(link) => self.abandon(link, id, slot.call.want),
            State::Done(_) => {}
            State::WaitsForRoom | State::Queued | State::Rests => self.prune(),
        }
    }

    /// Nobody waits any more for a call that was sent.
    fn abandon(&mut self, link: LinkId, id: MsgId, want: Want) {
        let Some(link) = self.links.find(link) else { return };
        link.sent -= 1;
        // A plain peer knows no cancel.
        if want == Want::Reply && link.peer.extended {
            link.cancels.push_back(id);
        }
        link.wake.notify_one();
    }

    /// Closes the gaps that calls which ended have left in the queues, where they are the greater
    /// part: without a connection nobody else would.
    fn prune(&mut self) {
        let most = 2 * self.slots.len() + 64;
        let slots = &mut self.slots;
        let mut alive = |id: &MsgId| slots.get_mut(id.0).is_some();
        for queue in [&mut self.waiting, &mut self.linkless].into_iter().chain(self.links.queues())
        {
            if queue.len() > most {
                queue.retain(&mut alive);
            }
        }
        if self.resting.len() > most {
            self.resting.retain(|Reverse((_, id))| alive(id));
        }
    }

    /// When [`tick`](Self::tick) is to be called next.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        let retry =
            self.resting.peek().map(|Reverse((due, _))| (*due).max(self.budget_at.unwrap_or(*due)));
        self.next_deadline.into_iter().chain(retry).min()
    }

    /// Ends every call whose time is up, and makes the retries that are due. Servers are told of
    /// the calls that they have: their clocks for them may have started later.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Waker> {
        let mut wakers = Vec::new();
        if self.next_deadline.is_some_and(|next| next <= now) {
            self.expire(now, &mut wakers);
        }
        while let Some(Reverse((due, id))) = self.resting.peek().copied() {
            if due > now {
                break;
            }
            let rests =
                self.slots.get_mut(id.0).is_some_and(|slot| matches!(slot.state, State::Rests));
            if rests {
                self.budget_at = self.budget.withdraw(now).err();
                if self.budget_at.is_some() {
                    break;
                }
                self.retries += 1;
                wakers.extend(self.dispatch(id, now));
            }
            self.resting.pop();
        }
        wakers
    }

    fn expire(&mut self, now: Instant, wakers: &mut Vec<Waker>) {
        let mut next_deadline: Option<Instant> = None;
        let mut overdue = Vec::new();
        for (id, slot) in self.slots.iter_mut() {
            if matches!(slot.state, State::Done(_)) {
                continue;
            }
            if slot.call.deadline <= now {
                overdue.push(MsgId(id));
            } else {
                let deadline = slot.call.deadline;
                next_deadline = Some(next_deadline.map_or(deadline, |next| next.min(deadline)));
            }
        }
        self.next_deadline = next_deadline;
        for id in overdue {
            let Some(slot) = self.slots.get_mut(id.0) else { continue };
            let error = match slot.state {
                State::Sent(link) => {
                    let (want, error) =
                        (slot.call.want, deadline_exceeded(Ran::Maybe, "before the reply came"));
                    self.abandon(link, id, want);
                    match self.links.find(link) {
                        Some(link) => error.at(&self.places[link.endpoint].name),
                        None => error,
                    }
                }
                State::WaitsForRoom => deadline_exceeded(
                    Ran::No,
                    "while as many calls were in flight as this client may have",
                ),
                _ => match &slot.history {
                    Some(history) => {
                        deadline_exceeded(Ran::No, "before the call could be made again")
                            .with_source(history.error.message().to_owned())
                    }
                    None => {
                        self.explain(deadline_exceeded(Ran::No, "before the call could be sent"))
                    }
                },
            };
            wakers.extend(self.end(id, error));
        }
        self.prune();
    }

    /// Ends every call: the client is closed.
    pub(crate) fn fail_all(&mut self, message: &str) -> Vec<Waker> {
        let mut open = Vec::new();
        for (id, slot) in self.slots.iter_mut() {
            match slot.state {
                State::Sent(_) => open.push((MsgId(id), Ran::Maybe)),
                State::Done(_) => {}
                _ => open.push((MsgId(id), Ran::No)),
            }
        }
        open.into_iter()
            .filter_map(|(id, ran)| {
                self.end(id, RpcError::new(ErrorKind::Disconnected, ran, message))
            })
            .collect()
    }
}

fn deadline_exceeded(ran: Ran, when: &str) -> RpcError {
    RpcError::new(ErrorKind::DeadlineExceeded, ran, format!("the time ran out {when}"))
}

/// Says that a request is longer than `whose` limit, in bytes.
pub(crate) fn request_too_large(size: usize, whose: &str, limit: usize) -> RpcError {
    let message =
        format!("the request has {size} bytes, and the {whose}'s max_message_size is {limit}");
    RpcError::new(ErrorKind::TooLarge { size, limit }, Ran::No, message)
}

#[cfg(test)]
mod tests;
