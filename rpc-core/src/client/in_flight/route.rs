//! Which link each call takes, what a link's messages become of, and what happens when it ends.

use std::{cmp::Reverse, collections::VecDeque, sync::Arc, task::Waker, time::Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{History, InFlight, NewCall, Reply, Slot, State, Want, request_too_large};
use crate::{
    args::{EncodedArgs, Message},
    client::{
        links::{LinkId, Peer},
        retry,
    },
    error::{ErrorKind, Ran, RpcError},
    message::{Head, MsgId, batch::Batch},
};

/// What is to be sent next on a link: one message, or a batch.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) body: Bytes,
    /// Those in it: they are done when the socket has them.
    pub(crate) notifications: Vec<MsgId>,
}

/// Makes bodies of messages: small ones travel together, if the peer takes that.
struct Packer<'a> {
    out: &'a mut Vec<Outgoing>,
    batches: bool,
    batch: Batch,
    notifications: Vec<MsgId>,
}

impl Packer<'_> {
    /// Adds a message, and `more` will follow.
    fn add(
        &mut self,
        message: &mut Message,
        head: Head<'_>,
        notification: Option<MsgId>,
        more: usize,
    ) {
        let len = message.len_with(head);
        let alone = self.batch.count() == 0 && more == 0;
        let together = self.batches && Batch::suits(len) && !alone;
        if !together || !self.batch.has_room(len) {
            self.flush();
        }
        self.notifications.extend(notification);
        if together {
            message.append_to(head, self.batch.begin(len, more));
        } else {
            self.push(message.with_head(head));
        }
    }

    fn flush(&mut self) {
        if let Some(body) = self.batch.take() {
            self.push(body);
        }
    }

    fn push(&mut self, body: Bytes) {
        self.out.push(Outgoing { body, notifications: std::mem::take(&mut self.notifications) });
    }
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
                    let message = "the server that may have run it has gone, and its memory of replies with it";
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
        if slot.call.rules.fail_fast
            && (bound || self.places.iter().all(|place| place.failure.is_some()))
        {
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
        let left = slot.call.deadline.saturating_duration_since(now);
        let pause = retry::pause(retries, asked, left, &mut self.random);
        let may_ran = error.ran() != Ran::No;
        let remembered_by = match history {
            Some(History { remembered_by: Some(instance), .. }) => Some(Arc::clone(instance)),
            _ => instance.filter(|_| may_ran && !rules.idempotent && rules.key.is_some()).cloned(),
        };
        let error = error.at(&self.places[endpoint].name);
        let allowed = rules.allow(&error, retries, remembered_by.is_some());
        let Some(pause) = pause.filter(|_| allowed) else { return self.end(id, error) };
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
        let Peer { extended, max_message_size, batches, .. } = link.peer;
        let mut packer =
            Packer { out, batches, batch: Batch::default(), notifications: Vec::new() };
        let mut left = max;
        if std::mem::take(&mut link.ping) && extended {
            let head =
                Head::Request { id: MsgId(self.slots.skip_id()), timeout_ms: None, key: None };
            packer.add(&mut ping_message(), head, None, 0);
        }
        while left > 0
            && let Some(id) = link.cancels.pop_front()
        {
            left -= 1;
            packer.add(
                &mut cancel_message(id),
                Head::Notification,
                None,
                left.min(link.cancels.len()),
            );
        }
        while left > 0
            && let Some(id) = link.queue.pop_front()
        {
            // A call whose time is up is left to `tick`, and a cancelled one has gone.
            let Some(slot) = self.slots.get_mut(id.0) else { continue };
            let NewCall { message, want, rules, deadline } = &mut slot.call;
            if !matches!(slot.state, State::Queued) || *deadline <= now {
                continue;
            }
            if message.len() > max_message_size {
                too_large.push((id, message.len()));
                continue;
            }
            let (head, notification) = match want {
                Want::Nothing => (Head::Notification, Some(id)),
                Want::Reply => {
                    let left = deadline.saturating_duration_since(now).as_micros().div_ceil(1_000);
                    let timeout_ms = extended.then(|| u32::try_from(left).unwrap_or(u32::MAX));
                    let key = rules.key.as_deref().filter(|_| extended);
                    (Head::Request { id, timeout_ms, key }, None)
                }
            };
            left -= 1;
            packer.add(message, head, notification, left.min(link.queue.len()));
            slot.state = State::Sent(link.id);
            link.sent += 1;
        }
        packer.flush();
        let endpoint = link.endpoint;
        let mut end = |(id, size)| {
            let error = request_too_large(size, "server", max_message_size);
            self.end(id, error.at(&self.places[endpoint].name))
        };
        too_large.into_iter().filter_map(&mut end).collect()
    }

    /// Ends a call that was sent on `link`. `None` if it is not known, as after a cancel, or has
    /// ended already.
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
    pub(crate) fn fail(
        &mut self,
        link: LinkId,
        id: MsgId,
        error: RpcError,
        now: Instant,
    ) -> Vec<Waker> {
        if !self
            .slots
            .get_mut(id.0)
            .is_some_and(|slot| matches!(slot.state, State::Sent(on) if on == link))
        {
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

    /// There is no link to the endpoint, and why. Calls that do not want to wait for one end, if
    /// there is no other.
    pub(crate) fn link_failed(
        &mut self,
        endpoint: usize,
        cause: Arc<str>,
        now: Instant,
    ) -> Vec<Waker> {
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

    /// The link has ended: what was sent on it is tried again or fails, what was not goes
    /// elsewhere. `error` says what happened to those that were sent.
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
        let sent: Vec<_> = self
            .slots
            .iter_mut()
            .filter(|(_, slot)| on_link(slot))
            .map(|(id, _)| MsgId(id))
            .collect();
        let mut wakers = self.dispatch_queued(link.queue, now);
        wakers.extend(self.dispatch_linkless(now));
        for id in sent {
            wakers.extend(self.settle(
                id,
                error(),
                link.endpoint,
                link.peer.instance.as_ref(),
                now,
            ));
        }
        wakers
    }
}

fn cancel_message(id: MsgId) -> Message {
    message_of(EncodedArgs::dynamic("rpc.cancel".into(), &(id.0,)))
}

fn ping_message() -> Message {
    message_of(EncodedArgs::dynamic("rpc.ping".into(), &()))
}

fn message_of(args: EncodedArgs) -> Message {
    args.finish().expect("a number can be encoded")
}
