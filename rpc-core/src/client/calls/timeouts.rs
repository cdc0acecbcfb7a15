//! The timeouts of calls: deadlines, and retries that are due.

use std::{cmp::Reverse, task::Waker, time::Instant};

use super::{CallState, Calls};
use crate::{
    error::{ErrorKind, Ran, RpcError},
    protocol::MsgId,
    util::wakers::Wakers,
};

impl Calls {
    /// Returns the time at which [`handle_timeout`](Self::handle_timeout) must be called next.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let retry = self.backoffs.peek();
        let retry = retry.map(|Reverse((due, _))| (*due).max(self.budget_at.unwrap_or(*due)));
        let room = if self.unrouted.is_empty() { None } else { self.balancer.next_pause_end() };
        self.next_deadline.into_iter().chain(retry).chain(room).min()
    }

    /// Returns [`next_timeout`](Self::next_timeout), and wakes `timer` once this time becomes
    /// earlier.
    pub(crate) fn poll_timeout(&mut self, timer: &Waker) -> Option<Instant> {
        self.timer = Some(timer.clone());
        self.next_timeout()
    }

    /// Ends every call whose deadline has passed, and makes the retries that are due. Calls that
    /// were sent are also cancelled on their servers, where the timeout may have started later.
    pub(crate) fn handle_timeout(&mut self, now: Instant, wakers: &mut Wakers) {
        if self.next_deadline.is_some_and(|next| next <= now) {
            self.expire(now, wakers);
        }
        while let Some(Reverse((due, id))) = self.backoffs.peek().copied() {
            if due > now {
                break;
            }
            let slot = self.slots.get_mut(id.0);
            if slot.is_some_and(|slot| matches!(slot.state, CallState::BacksOff)) {
                self.budget_at = self.budget.withdraw(now).err();
                if self.budget_at.is_some() {
                    break;
                }
                self.retries += 1;
                self.route(id, now, wakers);
            }
            self.backoffs.pop();
        }
        self.balancer.end_pauses(now);
        self.fill_links(now, wakers);
    }

    /// Ends every call whose deadline has passed.
    fn expire(&mut self, now: Instant, wakers: &mut Wakers) {
        let mut next_deadline: Option<Instant> = None;
        let mut overdue = Vec::new();
        for (id, slot) in self.slots.iter_mut() {
            if matches!(slot.state, CallState::Done(_)) {
                continue;
            }
            // A caller that takes its time is waited for, unless all of it is up.
            if let Some(flows) = &slot.call.flows
                && matches!(slot.state, CallState::Sent(_))
                && flows.await_caller()
            {
                slot.call.deadline = flows.next_deadline(now);
            }
            let deadline = slot.call.deadline;
            if deadline <= now {
                overdue.push(MsgId(id));
            } else {
                next_deadline = Some(next_deadline.map_or(deadline, |next| next.min(deadline)));
            }
        }
        self.next_deadline = next_deadline;
        for id in overdue {
            if let Some(error) = self.deadline_error(id, wakers) {
                self.fail(id, error, wakers);
            }
        }
        self.prune();
    }

    /// Makes the error of a call whose deadline has passed, and cancels the call if it was sent.
    fn deadline_error(&mut self, id: MsgId, wakers: &mut Wakers) -> Option<RpcError> {
        let slot = self.slots.get_mut(id.0)?;
        Some(match slot.state {
            CallState::Sent(link) => {
                let (kind, bytes) = (slot.call.kind, slot.charged.unwrap_or(0));
                let error = match &slot.call.flows {
                    Some(flows) => flows.silence(),
                    None => deadline_exceeded(Ran::Maybe, "before the reply came"),
                };
                self.abandon(link, id, kind, bytes, wakers);
                match self.balancer.find(link) {
                    Some(link) => error.at(&link.endpoint.name),
                    None => error,
                }
            }
            CallState::AwaitsCapacity => deadline_exceeded(
                Ran::No,
                "while as many calls were in flight as this client may have",
            ),
            CallState::BacksOff if self.budget_at.is_some() => deadline_exceeded(
                Ran::No,
                "while so many calls were retried that their number is limited (to a fifth of all)",
            ),
            CallState::BacksOff => {
                deadline_exceeded(Ran::No, "before the call could be made again")
            }
            CallState::Queued | CallState::Done(_)
                if slot.history.as_ref().is_some_and(|history| history.cached_by.is_some()) =>
            {
                let when = "while there was no connection to the server that may have run it";
                deadline_exceeded(Ran::No, when)
            }
            CallState::Queued | CallState::Done(_) => {
                if self.balancer.iter().any(|link| !link.draining && link.window.is_some()) {
                    let when = "while its servers had as many calls of this client as they take";
                    deadline_exceeded(Ran::No, when)
                } else {
                    self.explain(deadline_exceeded(Ran::No, "before the call could be sent"))
                }
            }
        })
    }
}

fn deadline_exceeded(ran: Ran, when: &str) -> RpcError {
    RpcError::new(ErrorKind::DeadlineExceeded, ran, format!("the time ran out {when}"))
}
