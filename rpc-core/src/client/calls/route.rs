//! The routing of calls to links, and the handling of link events: replies, refusals, new links,
//! and links that end.

use std::{cmp::Reverse, collections::VecDeque, sync::Arc, time::Instant};

use bytes::Bytes;

use super::{CallKind, CallState, Calls, History, Reply, Slot};
use crate::{
    client::{
        balancer::LinkId,
        calls::retry::{INITIAL_BACKOFF, backoff},
        endpoints::EndpointState,
    },
    error::{ErrorKind, Ran, RpcError},
    protocol::{
        MsgId,
        control::{PeerInfo, Window},
        response,
    },
    transport::Fate,
    util::wakers::Wakers,
};

/// The addition to the error of a stored call whose link is lost.
const STORED: &str = "the broker has stored the request, and a server runs it or has run it, but \
                      its reply is lost";

impl Calls {
    /// Puts a call into the queue of a link, or among the unrouted calls. The call may also fail
    /// here.
    pub(super) fn route(&mut self, id: MsgId, now: Instant, wakers: &mut Wakers) {
        if !self.try_route(id, now, wakers) {
            self.queue_unrouted(id);
            self.demand_room(wakers);
        }
    }

    /// Puts a call among the unrouted calls.
    fn queue_unrouted(&mut self, id: MsgId) {
        // A retry goes first, because its call was made before the others.
        let is_retry = self.slots.get_mut(id.0).is_some_and(|slot| slot.history.is_some());
        if is_retry {
            self.unrouted.push_front(id);
        } else {
            self.unrouted.push_back(id);
        }
    }

    /// Makes the client look for room for the unrouted calls.
    fn demand_room(&mut self, wakers: &mut Wakers) {
        // A server whose pause ends takes the call, although it is not the best.
        if self.balancer.next_pause_end().is_some() {
            wakers.extend(self.timer.take());
        }
        // The senders ask for larger windows.
        let waiting = self.unrouted.len();
        for link in self.balancer.iter_mut() {
            let demand = link.load() + waiting;
            if link.window.as_ref().is_some_and(|window| window.is_short(demand)) {
                link.wake_sender(wakers);
            }
        }
    }

    /// Puts a call into the queue of a link, or ends it. Returns false if it must wait for a link,
    /// or for room in the window of a link.
    fn try_route(&mut self, id: MsgId, now: Instant, wakers: &mut Wakers) -> bool {
        let Some(slot) = self.slots.get_mut(id.0) else { return true };
        slot.state = CallState::Queued;
        let history = slot.history.as_deref();
        let instance = history.and_then(|history| history.cached_by.clone());
        let link = if let (Some(instance), Some(history)) = (&instance, history) {
            let (mut found, mut replaced) = (None, false);
            for link in self.balancer.iter().filter(|link| !link.draining) {
                if link.peer.instance.as_ref() == Some(instance) {
                    found = Some(link.id);
                }
                replaced |= Arc::ptr_eq(&link.endpoint, &history.endpoint);
            }
            if replaced && found.is_none() {
                let message =
                    "the server that may have run it has gone, and its memory of replies with it";
                let error = RpcError::new(ErrorKind::Disconnected, Ran::Maybe, message);
                self.fail(id, error, wakers);
                return true;
            }
            found.and_then(|found| self.balancer.find(found))
        } else {
            let affinity = slot.call.policy.affinity();
            self.balancer.choose(now, history.map(|history| &history.endpoint), affinity)
        };
        if let Some(link) = link {
            link.push(id, wakers);
            return true;
        }
        let bound = instance.is_some();
        let fails_fast = slot.call.policy.fail_fast;
        if fails_fast && (bound || self.has_no_link()) {
            let message = if bound {
                "there is no connection to the server that may have run it"
            } else {
                "there is no connection"
            };
            let error = RpcError::new(ErrorKind::Disconnected, Ran::No, message);
            self.fail(id, self.explain(error), wakers);
            return true;
        }
        if bound {
            self.bound.push_back(id);
        }
        bound
    }

    /// Returns true if calls wait for a link, or for room in the window of a link.
    pub(crate) fn await_room(&self) -> bool {
        !self.unrouted.is_empty()
    }

    /// Gives calls that wait to links that have room in their windows, in order.
    pub(crate) fn fill_links(&mut self, now: Instant, wakers: &mut Wakers) {
        while let Some(id) = self.unrouted.pop_front() {
            let slot = self.slots.get_mut(id.0);
            let waits = slot.is_some_and(|slot| matches!(slot.state, CallState::Queued));
            if waits && !self.try_route(id, now, wakers) {
                return self.unrouted.push_front(id);
            }
        }
    }

    /// Takes the window that a server states.
    pub(crate) fn handle_window(
        &mut self,
        link: LinkId,
        window: Window,
        now: Instant,
        wakers: &mut Wakers,
    ) {
        if let Some(link) = self.balancer.find(link) {
            link.handle_window(window, wakers);
        }
        self.fill_links(now, wakers);
    }

    /// Handles the failure of a try: the call backs off and is retried, or ends.
    fn retry_or_fail(
        &mut self,
        id: MsgId,
        error: RpcError,
        endpoint: &Arc<EndpointState>,
        instance: Option<&Arc<str>>,
        now: Instant,
        wakers: &mut Wakers,
    ) {
        let Some(slot) = self.slots.get_mut(id.0) else { return };
        // A stream is not begun again: one side has some of its items.
        if let Some(progress) = slot.progress() {
            let error = error.and(progress).has_run();
            return self.fail(id, error.at(&endpoint.name), wakers);
        }
        let (policy, history) = (&slot.call.policy, slot.history.as_deref());
        let retries = history.map_or(0, |history| history.retries);
        // The server asked for a pause only for itself. A retry at a healthy alternative need not
        // wait for it.
        let has_alternative = self.balancer.has_alternative(endpoint, now);
        let asked = error.retry_after().filter(|_| !has_alternative);
        let left = slot.call.deadline.saturating_duration_since(now);
        let pause = backoff(retries, asked, left, &mut self.random);
        let maybe_ran = error.ran() != Ran::No;
        let cached_by = match history {
            Some(History { cached_by: Some(instance), .. }) => Some(Arc::clone(instance)),
            _ => instance
                .filter(|_| maybe_ran && !policy.idempotent && policy.key().is_some())
                .cloned(),
        };
        let error = error.at(&endpoint.name);
        let allowed = policy.allows_retry(&error, retries, cached_by.is_some());
        let Some(pause) = pause.filter(|_| allowed) else { return self.fail(id, error, wakers) };
        let has_gone = matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::ShuttingDown);
        if retries == 0 && has_gone {
            self.budget.grant();
        }
        let maybe_ran = maybe_ran || history.is_some_and(|history| history.maybe_ran);
        slot.history = Some(Box::new(History {
            retries: retries + 1,
            maybe_ran,
            error,
            endpoint: Arc::clone(endpoint),
            cached_by,
        }));
        slot.state = CallState::BacksOff;
        if self.next_timeout().is_none_or(|next| now + pause < next) {
            wakers.extend(self.timer.take());
        }
        self.backoffs.push(Reverse((now + pause, id)));
    }

    /// Ends a call that was sent on `link` with its reply. A reply to a call that was cancelled, or
    /// that has ended already, is ignored.
    pub(crate) fn handle_reply(
        &mut self,
        link: LinkId,
        id: MsgId,
        body: Bytes,
        wakers: &mut Wakers,
    ) {
        let Some(link) = self.balancer.find(link) else { return };
        // Also by the answer to a ping, which is no reply to a call.
        link.unresponsive = false;
        let is_here = |state: &CallState| matches!(state, CallState::Sent(on) if *on == link.id);
        let slot = self.slots.get_mut(id.0).filter(|slot| is_here(&slot.state));
        let Some(slot) = slot else { return };
        link.handle_end(slot.charged.unwrap_or(0), wakers);
        if slot.states_names && response::is_success(&body) {
            link.agreed.insert(slot.call.signature);
        }
        let earlier = slot.history.as_ref().map(|history| (history.maybe_ran, history.retries));
        let (maybe_ran, retries) = earlier.unwrap_or_default();
        let endpoint = Arc::clone(&link.endpoint);
        let reply = Reply { body, endpoint, maybe_ran, retries };
        Self::end(slot, Ok(reply), &mut self.capacity, wakers);
    }

    /// Handles an error in place of a reply. The error may allow a retry.
    pub(crate) fn handle_refusal(
        &mut self,
        link: LinkId,
        id: MsgId,
        error: RpcError,
        now: Instant,
        wakers: &mut Wakers,
    ) {
        let slot = self.slots.get_mut(id.0);
        let is_here = |slot: &&mut Slot| matches!(slot.state, CallState::Sent(on) if on == link);
        let Some(slot) = slot.filter(is_here) else { return };
        let bytes = slot.charged.unwrap_or(0);
        if error.kind() == ErrorKind::ShuttingDown {
            self.handle_go_away(link, now, wakers);
        }
        let Some(link) = self.balancer.find(link) else { return };
        link.unresponsive = false;
        link.handle_end(bytes, wakers);
        if error.kind() == ErrorKind::Overloaded {
            link.backs_off_until = Some(now + error.retry_after().unwrap_or(INITIAL_BACKOFF));
            // The end of the pause may be the next timeout.
            wakers.extend(self.timer.take());
        }
        let (endpoint, instance) = (Arc::clone(&link.endpoint), link.peer.instance.clone());
        self.retry_or_fail(id, error, &endpoint, instance.as_ref(), now, wakers);
        // The link has room again.
        self.fill_links(now, wakers);
    }

    /// Handles the fate of calls at a carrier that stores messages.
    pub(crate) fn handle_fate(
        &mut self,
        link: LinkId,
        calls: &[MsgId],
        fate: &Fate,
        now: Instant,
        wakers: &mut Wakers,
    ) {
        let (kind, reason) = match fate {
            Fate::Stored => return self.handle_stored(link, calls, wakers),
            // They end at their deadlines.
            Fate::Expired => return,
            Fate::Refused(reason) => (ErrorKind::Overloaded, reason),
            Fate::Returned(reason) => (ErrorKind::Disconnected, reason),
        };
        // Trying again at once is of no use where no server has ever been.
        let is_hopeless =
            matches!(fate, Fate::Returned(_)) && self.balancer.iter().all(|other| other.id == link);
        for id in calls {
            let error = RpcError::new(kind, Ran::No, reason);
            if is_hopeless
                && let Some(slot) = self.slots.get_mut(id.0)
                && matches!(slot.state, CallState::Sent(on) if on == link)
            {
                slot.call.policy.retries = 0;
            }
            self.handle_refusal(link, *id, error, now, wakers);
        }
    }

    /// Notes that servers will get these calls. A notification is complete with that.
    fn handle_stored(&mut self, link: LinkId, calls: &[MsgId], wakers: &mut Wakers) {
        for id in calls {
            let Some(slot) = self.slots.get_mut(id.0) else { continue };
            match (&slot.state, slot.call.kind) {
                (CallState::Sent(on), CallKind::Notification) if *on == link => {
                    self.handle_reply(link, *id, Bytes::new(), wakers);
                }
                (CallState::Sent(on), CallKind::Request) if *on == link => slot.stored = true,
                _ => {}
            }
        }
    }

    /// Notes whether a carrier takes no messages for now, and why.
    pub(crate) fn handle_blocked(
        &mut self,
        link: LinkId,
        reason: Option<String>,
        now: Instant,
        wakers: &mut Wakers,
    ) {
        let Some(link) = self.balancer.find(link) else { return };
        link.blocked = reason.map(Arc::from);
        wakers.extend(link.sender.take());
        // Other links may take them. If there is none, they come back in their order.
        let queue = std::mem::take(&mut link.queue);
        self.route_unrouted(queue, now, wakers);
    }

    /// Adds a link, and routes the calls that waited for one.
    pub(crate) fn link_up(
        &mut self,
        endpoint: &Arc<EndpointState>,
        peer: PeerInfo,
        now: Instant,
        wakers: &mut Wakers,
    ) -> LinkId {
        let id = self.balancer.add(Arc::clone(endpoint), peer);
        endpoint.set_failure(None);
        // The endpoint may have been removed while it was being connected.
        if !self.endpoints.iter().any(|known| Arc::ptr_eq(known, endpoint)) {
            self.handle_go_away(id, now, wakers);
        }
        self.route_unrouted(VecDeque::new(), now, wakers);
        id
    }

    /// Routes all calls that wait for a link. The calls in `first`, which were routed before, come
    /// first.
    pub(super) fn route_unrouted(
        &mut self,
        first: VecDeque<MsgId>,
        now: Instant,
        wakers: &mut Wakers,
    ) {
        let queues = [first, std::mem::take(&mut self.bound), std::mem::take(&mut self.unrouted)];
        for id in queues.into_iter().flatten() {
            let slot = self.slots.get_mut(id.0);
            let waits = slot.is_some_and(|slot| matches!(slot.state, CallState::Queued));
            if waits && !self.try_route(id, now, wakers) {
                self.queue_unrouted(id);
            }
        }
        if !self.unrouted.is_empty() {
            self.demand_room(wakers);
        }
    }

    /// Handles the go-away of a server. The server still answers the calls that were sent to it.
    /// The calls in the queue of the link, which were not sent yet, are routed again.
    pub(crate) fn handle_go_away(&mut self, link: LinkId, now: Instant, wakers: &mut Wakers) {
        let Some(link) = self.balancer.find(link) else { return };
        let queue = link.drain(wakers);
        self.route_unrouted(queue, now, wakers);
    }

    /// Removes a link that has ended. Calls that were sent on it are retried, or fail with `error`.
    /// The calls in its queue, which were not sent yet, are routed again.
    pub(crate) fn link_down(
        &mut self,
        id: LinkId,
        cause: &str,
        error: impl Fn() -> RpcError,
        now: Instant,
        wakers: &mut Wakers,
    ) {
        let Some(link) = self.balancer.remove(id) else { return };
        // If this link was draining, the next link to the same endpoint may be up already.
        if !self.balancer.iter().any(|other| Arc::ptr_eq(&other.endpoint, &link.endpoint)) {
            link.endpoint.set_failure(Some(cause.into()));
        }
        let is_here = |slot: &Slot| matches!(slot.state, CallState::Sent(on) if on == id);
        let sent = self.slots.iter_mut().filter(|(_, slot)| is_here(slot));
        let sent: Vec<_> = sent.map(|(id, _)| MsgId(id)).collect();
        self.route_unrouted(link.queue, now, wakers);
        for id in sent {
            if self.slots.get_mut(id.0).is_some_and(|slot| slot.stored) {
                let error = error().and(STORED).at(&link.endpoint.name);
                self.fail(id, error, wakers);
                continue;
            }
            let instance = link.peer.instance.as_ref();
            self.retry_or_fail(id, error(), &link.endpoint, instance, now, wakers);
        }
    }
}
