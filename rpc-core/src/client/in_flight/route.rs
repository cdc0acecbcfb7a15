//! Which link each call takes, what a link's messages become of, and what happens when it ends.

use std::{cmp::Reverse, collections::VecDeque, sync::Arc, task::Waker, time::Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{History, InFlight, NewCall, Reply, Slot, State, Want, request_too_large};
use crate::{
    args::EncodedArgs,
    client::{
        links::{LinkId, Peer},
        retry,
    },
    error::{ErrorKind, Ran, RpcError},
    message::{Head, MsgId},
};

/// What is to be sent next on a link.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Message {
        id: MsgId,
        want: Want,
        body: Bytes,
    },
    /// A cancel or a ping, which no call waits for.
    Control(Bytes),
}

impl InFlight {
    /// Puts a call into the queue of a link, if one takes it. It may end right here.
    pub(super) fn dispatch(&mut self, id: MsgId, now: Instant) -> Option<Waker> {
        let slot = self.slots.get_mut(id.0)?;
        slot.state = State::Queued;
        let history = slot.history.as_deref();
        let link = match history.and_then(|history| history.remembered_by.as_ref()) {
            Some(instance) => {
                let (mut found, mut replaced) = (None, false);
                for link in self.links.iter().filter(|link| !link.leaving) {
                    if link.peer.instance.as_ref() == Some(instance) {
                        found = Some(link.id);
                    }
                    replaced |= Some(link.endpoint) == history.map(|history| history.endpoint);
                }
                if replaced && found.is_none() {
                    let message =
                        "the server that may have run it has gone, and its memory of replies with it";
                    let error = RpcError::new(ErrorKind::Disconnected, Ran::Maybe, message);
                    return self.end(id, error);
                }
                found.and_then(|found| self.links.find(found))
            }
            None => self.links.choose(now, history.map(|history| history.endpoint)),
        };
        if let Some(link) = link {
            link.push(id);
            return None;
        }
        let bound = history.is_some_and(|history| history.remembered_by.is_some());
        if slot.call.rules.fail_fast && (bound || self.places.iter().all(|place| place.failure.is_some())) {
            let message = if bound {
                "there is no connection to the server that may have run it"
            } else {
                "there is no connection"
            };
            let error = self.explain(RpcError::new(ErrorKind::Disconnected, Ran::No, message));
            return self.end(id, error);
        }
        self.linkless.push_back(id);
        None
    }

    /// A try has failed: the call rests and is tried again, or it ends.
    fn settle(
        &mut self,
        id: MsgId,
        error: RpcError,
        endpoint: usize,
        instance: Option<&Arc<str>>,
        now: Instant,
    ) -> Option<Waker> {
        let slot = self.slots.get_mut(id.0)?;
        let (rules, history) = (&slot.call.rules, slot.history.as_deref());
        let retries = history.map_or(0, |history| history.retries);
        // The server asked for a pause of its own: another that is well need not wait for it.
        let asked = error.retry_after().filter(|_| !self.links.has_other(endpoint, now));
        let pause = retry::pause(retries, asked, &mut self.random);
        let may_ran = error.ran() != Ran::No;
        let remembered_by = match history {
            Some(History { remembered_by: Some(instance), .. }) => Some(Arc::clone(instance)),
            _ => instance.filter(|_| may_ran && !rules.idempotent && rules.key.is_some()).cloned(),
        };
        let error = error.at(&self.places[endpoint].name);
        if !rules.allow(&error, retries, remembered_by.is_some()) || now + pause >= slot.call.deadline {
            return self.end(id, error);
        }
        let maybe_ran = may_ran || history.is_some_and(|history| history.maybe_ran);
        let history = History { retries: retries + 1, maybe_ran, error, endpoint, remembered_by };
        slot.history = Some(Box::new(history));
        slot.state = State::Rests;
        if self.next_tick().is_none_or(|next| now + pause < next) {
            self.clock.notify_one();
        }
        self.resting.push(Reverse((now + pause, id)));
        None
    }

    /// Moves up to `max` messages for a link to `out`: from now on their functions may run.
    pub(crate) fn take(
        &mut self,
        link: LinkId,
        max: usize,
        now: Instant,
        out: &mut Vec<Outgoing>,
    ) -> Vec<Waker> {
        let Some(link) = self.links.find(link) else { return Vec::new() };
        let mut too_large = Vec::new();
        let extended = link.peer.extended;
        if std::mem::take(&mut link.ping) && extended {
            out.push(Outgoing::Control(ping_message(MsgId(self.slots.skip_id()))));
        }
        let cancels = link.cancels.len().min(max);
        out.extend(link.cancels.drain(..cancels).map(|id| Outgoing::Control(cancel_message(id))));
        while out.len() < max {
            let Some(id) = link.queue.pop_front() else { break };
            // A call whose time is up is left to `tick`, and a cancelled one has gone.
            let Some(slot) = self.slots.get_mut(id.0) else { continue };
            let NewCall { message, want, rules, deadline } = &mut slot.call;
            if !matches!(slot.state, State::Queued) || *deadline <= now {
                continue;
            }
            if message.len() > link.peer.max_message_size {
                too_large.push((id, message.len()));
                continue;
            }
            let head = match want {
                Want::Nothing => Head::Notification,
                Want::Reply => {
                    let left = deadline.saturating_duration_since(now).as_micros().div_ceil(1_000);
                    let timeout_ms = extended.then(|| u32::try_from(left).unwrap_or(u32::MAX));
                    Head::Request { id, timeout_ms, key: rules.key.as_deref().filter(|_| extended) }
                }
            };
            out.push(Outgoing::Message { id, want: *want, body: message.with_head(head) });
            slot.state = State::Sent(link.id);
            link.sent += 1;
        }
        let (endpoint, limit) = (Arc::clone(&self.places[link.endpoint].name), link.peer.max_message_size);
        let end = |(id, size)| self.end(id, request_too_large(size, "server", limit).at(&endpoint));
        too_large.into_iter().filter_map(end).collect()
    }

    /// Ends a call that was sent on `link`. `None` if it is not known, as after a cancel, or has ended already.
    pub(crate) fn complete(&mut self, link: LinkId, id: MsgId, body: Bytes) -> Option<Waker> {
        let link = self.links.find(link)?;
        link.silent = false;
        let on_link = |slot: &&mut Slot| matches!(slot.state, State::Sent(on) if on == link.id);
        let slot = self.slots.get_mut(id.0).filter(on_link)?;
        link.sent -= 1;
        // A link that leaves ends with its last reply.
        if link.leaving && link.sent == 0 {
            link.wake.notify_one();
        }
        slot.call.message.clear();
        if let Some(charged) = &mut slot.charged {
            self.room.bytes = self.room.bytes - *charged + body.len();
            *charged = body.len();
        }
        let maybe_ran = slot.history.as_ref().is_some_and(|history| history.maybe_ran);
        slot.state = State::Done(Ok(Reply { body, endpoint: link.endpoint, maybe_ran }));
        Some(std::mem::replace(&mut slot.waker, Waker::noop().clone()))
    }

    /// The answer to a call that was sent on `link` is an error that may allow another try.
    pub(crate) fn fail(&mut self, link: LinkId, id: MsgId, error: RpcError, now: Instant) -> Vec<Waker> {
        if !self.slots.get_mut(id.0).is_some_and(|slot| matches!(slot.state, State::Sent(on) if on == link)) {
            return Vec::new();
        }
        let mut wakers = Vec::new();
        if error.kind() == ErrorKind::ShuttingDown {
            wakers = self.leave(link, now);
        }
        let Some(link) = self.links.find(link) else { return wakers };
        link.silent = false;
        link.sent -= 1;
        if link.leaving && link.sent == 0 {
            link.wake.notify_one();
        }
        if error.kind() == ErrorKind::Overloaded {
            link.resting_until = Some(now + error.retry_after().unwrap_or(retry::FIRST_PAUSE));
        }
        let (endpoint, instance) = (link.endpoint, link.peer.instance.clone());
        wakers.extend(self.settle(id, error, endpoint, instance.as_ref(), now));
        wakers
    }

    /// A link to the endpoint is up: whoever waited for one goes to it.
    pub(crate) fn link_up(
        &mut self,
        endpoint: usize,
        peer: Peer,
        wake: Arc<Notify>,
        now: Instant,
    ) -> (LinkId, Vec<Waker>) {
        let id = self.links.add(endpoint, peer, wake);
        self.places[endpoint].failure = None;
        (id, self.dispatch_linkless(now))
    }

    /// There is no link to the endpoint, and why. Calls that do not want to wait for one end, if there is no
    /// other.
    pub(crate) fn link_failed(&mut self, endpoint: usize, cause: Arc<str>, now: Instant) -> Vec<Waker> {
        let news = self.places[endpoint].failure.replace(cause).is_none();
        if news { self.dispatch_linkless(now) } else { Vec::new() }
    }

    fn dispatch_linkless(&mut self, now: Instant) -> Vec<Waker> {
        let ids = std::mem::take(&mut self.linkless);
        self.dispatch_queued(ids, now)
    }

    /// Sends calls another way that wait in a queue which is no longer served.
    fn dispatch_queued(&mut self, ids: VecDeque<MsgId>, now: Instant) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for id in ids {
            if self.slots.get_mut(id.0).is_some_and(|slot| matches!(slot.state, State::Queued)) {
                wakers.extend(self.dispatch(id, now));
            }
        }
        wakers
    }

    /// The server is going: what it has it will answer, everything else goes elsewhere.
    pub(crate) fn leave(&mut self, link: LinkId, now: Instant) -> Vec<Waker> {
        let Some(link) = self.links.find(link) else { return Vec::new() };
        link.leaving = true;
        link.wake.notify_one();
        let queue = std::mem::take(&mut link.queue);
        self.dispatch_queued(queue, now)
    }

    /// The link has ended: what was sent on it is tried again or fails, what was not goes elsewhere. `error` says
    /// what happened to those that were sent.
    pub(crate) fn link_down(
        &mut self,
        id: LinkId,
        cause: &Arc<str>,
        error: impl Fn() -> RpcError,
        now: Instant,
    ) -> Vec<Waker> {
        let Some(link) = self.links.remove(id) else { return Vec::new() };
        // The next link may be up already, if this one was leaving.
        if !self.links.iter().any(|other| other.endpoint == link.endpoint) {
            self.places[link.endpoint].failure = Some(Arc::clone(cause));
        }
        let on_link = |slot: &Slot| matches!(slot.state, State::Sent(on) if on == id);
        let sent: Vec<_> =
            self.slots.iter_mut().filter(|(_, slot)| on_link(slot)).map(|(id, _)| MsgId(id)).collect();
        let mut wakers = self.dispatch_queued(link.queue, now);
        wakers.extend(self.dispatch_linkless(now));
        for id in sent {
            wakers.extend(self.settle(id, error(), link.endpoint, link.peer.instance.as_ref(), now));
        }
        wakers
    }
}

fn cancel_message(id: MsgId) -> Bytes {
    EncodedArgs::dynamic("rpc.cancel".into(), &(id.0,)).into_message(Head::Notification)
}

fn ping_message(id: MsgId) -> Bytes {
    let head = Head::Request { id, timeout_ms: None, key: None };
    EncodedArgs::dynamic("rpc.ping".into(), &()).into_message(head)
}
