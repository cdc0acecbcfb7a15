//! A connection's calls, from the moment they are made until their caller has the reply. No I/O, no clock, no
//! lock: whoever owns it says what time it is and wakes whom it names.

use std::{collections::VecDeque, task::Waker, time::Instant};

use bytes::Bytes;

use crate::{
    args::EncodedArgs,
    error::{ErrorKind, Ran, RpcError},
    id_table::IdTable,
    message::{self, Head, MsgId},
};

/// Whether an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Reply,
    /// A notification: it is done when the socket has it.
    Nothing,
}

/// What came of a call: the response's body, or why there is none. The caller adds function and endpoint.
pub(crate) type Outcome = Result<Bytes, RpcError>;

/// What is to be sent next.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Message {
        id: MsgId,
        want: Want,
        args: EncodedArgs,
        deadline: Instant,
    },
    /// The caller of this call no longer waits.
    Cancel(MsgId),
}

#[derive(Debug)]
struct Slot {
    state: State,
    deadline: Instant,
    waker: Waker,
}

#[derive(Debug)]
enum State {
    /// In the queue: it never left this process.
    Queued(EncodedArgs, Want),
    /// The socket has it, or is about to.
    Sent(Want),
    Done(Outcome),
}

/// The calls of one connection.
#[derive(Debug)]
pub(crate) struct InFlight {
    slots: IdTable<Slot>,
    /// Ids in order of submission; some may have been cancelled meanwhile.
    queue: VecDeque<MsgId>,
    /// As many as calls that are sent at most; beyond it a server learns from the deadline.
    cancels: VecDeque<MsgId>,
    sent: usize,
    limit: usize,
    /// No call's deadline is earlier than this.
    next_deadline: Option<Instant>,
}

/// What the submitter has to do after a submission.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Submitted {
    pub(crate) id: MsgId,
    /// The deadline is the earliest: whoever waits for deadlines must be told.
    pub(crate) earliest: bool,
}

impl InFlight {
    /// At most `limit` calls at a time; one more is refused as overloaded.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            slots: IdTable::new(),
            queue: VecDeque::new(),
            cancels: VecDeque::new(),
            sent: 0,
            limit,
            next_deadline: None,
        }
    }

    /// Puts a call into the queue.
    pub(crate) fn submit(
        &mut self,
        args: EncodedArgs,
        want: Want,
        deadline: Instant,
        waker: &Waker,
    ) -> Result<Submitted, RpcError> {
        if self.slots.len() >= self.limit {
            let message = format!("{} calls are in flight on this client, which is its limit", self.limit);
            return Err(RpcError::new(ErrorKind::Overloaded, Ran::No, message));
        }
        let slot = Slot { state: State::Queued(args, want), deadline, waker: waker.clone() };
        let id = MsgId(self.slots.insert(slot));
        self.queue.push_back(id);
        let earliest = self.next_deadline.is_none_or(|next| deadline < next);
        if earliest {
            self.next_deadline = Some(deadline);
        }
        Ok(Submitted { id, earliest })
    }

    /// An id that no call has, for a message of the connection's own.
    pub(crate) fn skip_id(&mut self) -> MsgId {
        MsgId(self.slots.skip_id())
    }

    /// Moves up to `max` messages from the queue to `out`: from now on the function may have run.
    pub(crate) fn take(&mut self, max: usize, now: Instant, out: &mut Vec<Outgoing>) {
        self.take_cancels(max, out);
        while out.len() < max {
            let Some(id) = self.queue.pop_front() else { return };
            // A call whose time is up is left to `expire`, and a cancelled one has gone.
            let Some(slot) = self.slots.get_mut(id.0).filter(|slot| slot.deadline > now) else {
                continue;
            };
            let State::Queued(_, want) = slot.state else {
                continue;
            };
            if let State::Queued(args, _) = std::mem::replace(&mut slot.state, State::Sent(want)) {
                self.sent += 1;
                out.push(Outgoing::Message { id, want, args, deadline: slot.deadline });
            }
        }
    }

    /// Moves up to `max` cancels to `out`.
    pub(crate) fn take_cancels(&mut self, max: usize, out: &mut Vec<Outgoing>) {
        let count = self.cancels.len().min(max - out.len());
        out.extend(self.cancels.drain(..count).map(Outgoing::Cancel));
    }

    /// Whether something waits to be sent.
    pub(crate) fn has_outgoing(&self) -> bool {
        !self.queue.is_empty() || !self.cancels.is_empty()
    }

    /// How many calls wait for a reply of the connection.
    pub(crate) fn sent(&self) -> usize {
        self.sent
    }

    /// Ends a call that was sent. `None` if it is not known, as after a cancel, or has ended already.
    pub(crate) fn complete(&mut self, id: MsgId, outcome: Outcome) -> Option<Waker> {
        let slot = self.slots.get_mut(id.0)?;
        if !matches!(slot.state, State::Sent(_)) {
            return None;
        }
        self.sent -= 1;
        slot.state = State::Done(outcome);
        Some(std::mem::replace(&mut slot.waker, Waker::noop().clone()))
    }

    /// Takes the outcome, if there is one; otherwise `waker` is woken when there is. It is swapped for the one that
    /// was here before, for the owner to drop where it holds no lock: that may run foreign code.
    pub(crate) fn poll(&mut self, id: MsgId, waker: &mut Waker) -> Option<Outcome> {
        const OWNED: &str = "a call's slot stays until the call takes its outcome or is dropped";
        let slot = self.slots.get_mut(id.0).expect(OWNED);
        if matches!(slot.state, State::Done(_)) {
            return match self.slots.remove(id.0).expect(OWNED).state {
                State::Done(outcome) => Some(outcome),
                State::Queued(..) | State::Sent(_) => None,
            };
        }
        std::mem::swap(&mut slot.waker, waker);
        None
    }

    /// Forgets a call whose caller has gone. `true` if something is now to be sent. `waker` is swapped out, as by
    /// [`poll`](Self::poll).
    pub(crate) fn cancel(&mut self, id: MsgId, waker: &mut Waker) -> bool {
        let state = self.slots.remove(id.0).map(|slot| {
            *waker = slot.waker;
            slot.state
        });
        match state {
            Some(State::Queued(..)) => {
                // Ids of cancelled calls are skipped by `take`; without a connection nobody takes.
                if self.queue.len() > 2 * self.slots.len() + 64 {
                    let slots = &mut self.slots;
                    self.queue.retain(|id| slots.get_mut(id.0).is_some());
                }
                false
            }
            Some(State::Sent(want)) => {
                self.sent -= 1;
                let tell = want == Want::Reply && self.cancels.len() < self.limit;
                if tell {
                    self.cancels.push_back(id);
                }
                tell
            }
            Some(State::Done(_)) | None => false,
        }
    }

    /// When [`expire`](Self::expire) is to be called next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Ends every call whose time is up. The server is told of those that it has: its clock for them may have
    /// started later.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Waker> {
        if self.next_deadline.is_none_or(|next| now < next) {
            return Vec::new();
        }
        self.next_deadline = None;
        let next_deadline = &mut self.next_deadline;
        let (cancels, limit) = (&mut self.cancels, self.limit);
        let mut overdue = |id: u32, slot: &mut Slot| {
            if slot.deadline <= now {
                if matches!(slot.state, State::Sent(Want::Reply)) && cancels.len() < limit {
                    cancels.push_back(MsgId(id));
                }
                return true;
            }
            *next_deadline = Some(next_deadline.map_or(slot.deadline, |next| next.min(slot.deadline)));
            false
        };
        end(&mut self.slots, &mut self.sent, &mut overdue, deadline_exceeded)
    }

    /// Ends every call that was sent: its reply will not come. Those in the queue wait on.
    pub(crate) fn fail_sent(&mut self, error: impl FnMut(Ran) -> RpcError) -> Vec<Waker> {
        self.cancels.clear();
        let mut was_sent = |_, slot: &mut Slot| matches!(slot.state, State::Sent(_));
        end(&mut self.slots, &mut self.sent, &mut was_sent, error)
    }

    /// Ends every call.
    pub(crate) fn fail_all(&mut self, error: impl FnMut(Ran) -> RpcError) -> Vec<Waker> {
        self.cancels.clear();
        self.queue.clear();
        end(&mut self.slots, &mut self.sent, &mut |_, _| true, error)
    }
}

/// Ends the calls that `which` chooses among those without an outcome.
fn end(
    slots: &mut IdTable<Slot>,
    sent: &mut usize,
    which: &mut dyn FnMut(u32, &mut Slot) -> bool,
    mut error: impl FnMut(Ran) -> RpcError,
) -> Vec<Waker> {
    let mut wakers = Vec::new();
    for (id, slot) in slots.iter_mut() {
        let ran = match slot.state {
            State::Queued(..) => Ran::No,
            State::Sent(_) => Ran::Maybe,
            State::Done(_) => continue,
        };
        if !which(id, slot) {
            continue;
        }
        *sent -= usize::from(ran == Ran::Maybe);
        slot.state = State::Done(Err(error(ran)));
        wakers.push(std::mem::replace(&mut slot.waker, Waker::noop().clone()));
    }
    wakers
}

fn deadline_exceeded(ran: Ran) -> RpcError {
    let message = match ran {
        Ran::No => "the time ran out before the call could be sent",
        _ => "the time ran out before the reply came",
    };
    RpcError::new(ErrorKind::DeadlineExceeded, ran, message)
}

/// The notification that cancels a call.
pub(crate) fn cancel_message(id: MsgId) -> Bytes {
    EncodedArgs::dynamic("rpc.cancel".into(), &(id.0,)).into_message(Head::Notification)
}

/// The head of a message that is sent `now`, and must be answered by `deadline`.
pub(crate) fn head(id: MsgId, want: Want, deadline: Instant, now: Instant, options: bool) -> message::Head {
    match want {
        Want::Nothing => Head::Notification,
        Want::Reply => {
            let left = deadline.saturating_duration_since(now).as_micros().div_ceil(1_000);
            let timeout_ms = options.then(|| u32::try_from(left).unwrap_or(u32::MAX));
            Head::Request { id, timeout_ms }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn noop() -> Waker {
        Waker::noop().clone()
    }

    fn args() -> EncodedArgs {
        EncodedArgs::dynamic("f".into(), &())
    }

    fn submit(in_flight: &mut InFlight, deadline: Instant) -> MsgId {
        in_flight.submit(args(), Want::Reply, deadline, Waker::noop()).unwrap().id
    }

    fn take(in_flight: &mut InFlight, now: Instant) -> Vec<Outgoing> {
        let mut out = Vec::new();
        in_flight.take(256, now, &mut out);
        out
    }

    fn outcome(in_flight: &mut InFlight, id: MsgId) -> (ErrorKind, Ran) {
        let error = in_flight.poll(id, &mut noop()).expect("it has ended").unwrap_err();
        (error.kind(), error.ran())
    }

    fn lost(ran: Ran) -> RpcError {
        RpcError::new(ErrorKind::Disconnected, ran, "lost")
    }

    #[test]
    fn a_call_is_sent_once_and_completed_once() {
        let now = Instant::now();
        let mut in_flight = InFlight::new(10);
        let id = submit(&mut in_flight, now + SECOND);
        assert!(matches!(take(&mut in_flight, now)[..], [Outgoing::Message { id: sent, .. }] if sent == id));
        assert!(take(&mut in_flight, now).is_empty());
        assert!(in_flight.poll(id, &mut noop()).is_none());
        assert!(in_flight.complete(id, Ok(Bytes::from_static(b"1"))).is_some());
        assert!(in_flight.complete(id, Ok(Bytes::from_static(b"2"))).is_none());
        assert_eq!(in_flight.poll(id, &mut noop()).unwrap().unwrap(), "1");
        assert_eq!(in_flight.sent(), 0);
    }

    #[test]
    fn replies_to_unknown_ids_are_ignored() {
        let mut in_flight = InFlight::new(10);
        assert!(in_flight.complete(MsgId(7), Ok(Bytes::new())).is_none());
        let now = Instant::now();
        let queued = submit(&mut in_flight, now + SECOND);
        // A reply to what was not sent yet cannot be its reply.
        assert!(in_flight.complete(queued, Ok(Bytes::new())).is_none());
        assert!(in_flight.poll(queued, &mut noop()).is_none());
    }

    #[test]
    fn one_call_more_than_the_limit_is_refused() {
        let deadline = Instant::now() + SECOND;
        let mut in_flight = InFlight::new(2);
        submit(&mut in_flight, deadline);
        let second = submit(&mut in_flight, deadline);
        let refused = in_flight.submit(args(), Want::Reply, deadline, Waker::noop()).unwrap_err();
        assert_eq!((refused.kind(), refused.ran()), (ErrorKind::Overloaded, Ran::No));
        in_flight.cancel(second, &mut noop());
        submit(&mut in_flight, deadline);
    }

    #[test]
    fn a_call_cancelled_before_it_was_sent_is_never_sent() {
        let now = Instant::now();
        let mut in_flight = InFlight::new(10);
        let id = submit(&mut in_flight, now + SECOND);
        assert!(!in_flight.cancel(id, &mut noop()));
        assert!(take(&mut in_flight, now).is_empty());
    }

    #[test]
    fn a_call_cancelled_after_it_was_sent_sends_a_cancel() {
        let now = Instant::now();
        let mut in_flight = InFlight::new(10);
        let id = submit(&mut in_flight, now + SECOND);
        take(&mut in_flight, now);
        assert!(in_flight.cancel(id, &mut noop()));
        assert!(matches!(take(&mut in_flight, now)[..], [Outgoing::Cancel(cancelled)] if cancelled == id));
        assert!(in_flight.complete(id, Ok(Bytes::new())).is_none());
    }

    #[test]
    fn cancelling_without_a_connection_leaves_nothing_behind() {
        let deadline = Instant::now() + SECOND;
        let mut in_flight = InFlight::new(10);
        for _ in 0..100_000 {
            let id = submit(&mut in_flight, deadline);
            in_flight.cancel(id, &mut noop());
        }
        assert!(in_flight.queue.len() <= 65, "{}", in_flight.queue.len());
    }

    #[test]
    fn time_runs_out_with_the_truth_about_having_run() {
        let now = Instant::now();
        let mut in_flight = InFlight::new(10);
        let sent = submit(&mut in_flight, now + SECOND);
        take(&mut in_flight, now);
        let queued = submit(&mut in_flight, now + SECOND);
        let later = submit(&mut in_flight, now + 3 * SECOND);
        assert_eq!(in_flight.next_deadline(), Some(now + SECOND));
        assert!(in_flight.expire(now).is_empty());

        assert_eq!(in_flight.expire(now + SECOND).len(), 2);
        assert_eq!(outcome(&mut in_flight, sent), (ErrorKind::DeadlineExceeded, Ran::Maybe));
        assert_eq!(outcome(&mut in_flight, queued), (ErrorKind::DeadlineExceeded, Ran::No));
        assert!(matches!(take(&mut in_flight, now + SECOND)[..], [Outgoing::Cancel(id), ..] if id == sent));
        assert_eq!(in_flight.next_deadline(), Some(now + 3 * SECOND));
        assert!(in_flight.poll(later, &mut noop()).is_none());
        assert_eq!(in_flight.expire(now + 3 * SECOND).len(), 1);
        assert_eq!(in_flight.next_deadline(), None);
        assert_eq!(in_flight.sent(), 0);
    }

    #[test]
    fn only_an_earlier_deadline_is_news() {
        let now = Instant::now();
        let mut in_flight = InFlight::new(10);
        let mut earliest = |seconds: u32| {
            let deadline = now + seconds * SECOND;
            in_flight.submit(args(), Want::Reply, deadline, Waker::noop()).unwrap().earliest
        };
        assert!(earliest(5));
        assert!(!earliest(5));
        assert!(!earliest(6));
        assert!(earliest(4));
    }

    #[test]
    fn what_expired_in_the_queue_is_not_sent() {
        let now = Instant::now();
        let mut in_flight = InFlight::new(10);
        let id = submit(&mut in_flight, now + SECOND);
        assert!(take(&mut in_flight, now + SECOND).is_empty());
        in_flight.expire(now + SECOND);
        assert_eq!(outcome(&mut in_flight, id), (ErrorKind::DeadlineExceeded, Ran::No));
    }

    #[test]
    fn a_lost_connection_ends_what_was_sent_and_keeps_what_was_not() {
        let now = Instant::now();
        let mut in_flight = InFlight::new(10);
        let sent = submit(&mut in_flight, now + SECOND);
        take(&mut in_flight, now);
        let queued = submit(&mut in_flight, now + SECOND);
        assert_eq!(in_flight.fail_sent(lost).len(), 1);
        assert_eq!(outcome(&mut in_flight, sent), (ErrorKind::Disconnected, Ran::Maybe));
        assert!(in_flight.poll(queued, &mut noop()).is_none());
        assert_eq!(in_flight.fail_all(lost).len(), 1);
        assert_eq!(outcome(&mut in_flight, queued), (ErrorKind::Disconnected, Ran::No));
    }

    #[test]
    fn what_is_left_of_the_time_is_rounded_up_to_a_millisecond() {
        let now = Instant::now();
        let head = |left| head(MsgId(1), Want::Reply, now + left, now, true);
        let millis = |head| match head {
            Head::Request { timeout_ms, .. } => timeout_ms,
            Head::Notification => None,
        };
        assert_eq!(millis(head(Duration::from_micros(1))), Some(1));
        assert_eq!(millis(head(Duration::from_millis(20))), Some(20));
        assert_eq!(millis(head(Duration::from_secs(u64::from(u32::MAX)))), Some(u32::MAX));
    }
}
