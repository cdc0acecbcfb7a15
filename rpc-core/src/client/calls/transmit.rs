//! The messages that a link sends next, and their bodies.

use std::{
    cell::LazyCell,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    CallKind, CallState, Calls, NewCall, Slot, flows::Flows, request_too_large, retry::Extras,
};
use crate::{
    client::{
        balancer::{Link, LinkId},
        window::Amount,
    },
    error::{ErrorKind, Ran, RpcError},
    protocol::{
        MsgId,
        batch::Batch,
        control::{self, Capabilities, PeerInfo},
        outgoing::{EncodedArgs, OutgoingMessage},
        request::{Head, Options},
        stream,
    },
    util::{deadline::deadline_after, slab::Slab, wakers::Wakers},
};

/// A body that is to be sent on a link: one message, or a batch.
#[derive(Debug)]
pub(crate) struct Transmit {
    pub(crate) body: Bytes,
    /// The notifications in the body, which are complete when the socket has accepted it. For a
    /// link to a carrier that stores messages, all calls in the body.
    pub(crate) calls: Vec<MsgId>,
    /// The last deadline of the calls in the body, for a carrier that stores messages.
    pub(crate) deadline: Option<Instant>,
}

/// The state of a link after [`Calls::poll_transmit`].
#[derive(Debug, Default)]
pub(crate) struct LinkProgress {
    /// True if the server is draining.
    pub(crate) draining: bool,
    /// True if calls that were sent on the link wait for their replies.
    pub(crate) awaits_replies: bool,
}

/// Packs messages into bodies. If the peer supports batches, small messages share a body.
struct Packer<'a> {
    out: &'a mut Vec<Transmit>,
    /// See [`PeerInfo::max_batch`].
    max_batch: usize,
    batch: Batch,
    calls: Vec<MsgId>,
    deadline: Option<Instant>,
}

impl<'a> Packer<'a> {
    fn new(out: &'a mut Vec<Transmit>, max_batch: usize) -> Self {
        Self { out, max_batch, batch: Batch::default(), calls: Vec::new(), deadline: None }
    }

    /// Adds a message of the client itself, which nobody waits for.
    fn add_own(&mut self, args: EncodedArgs, head: Head<'_>, more: usize) {
        let mut message = args.finish().expect("a number can be encoded");
        let len = message.len_with(head);
        self.add(&mut message, head, len, None, more);
    }

    /// Returns true if a message of `len` bytes goes into the batch. About `more` others will
    /// follow.
    #[inline]
    fn joins(&mut self, len: usize, more: usize) -> bool {
        let count = usize::from(self.batch.count());
        let alone = count == 0 && more == 0;
        let together = self.max_batch > 1 && Batch::suits(len) && !alone;
        if !together || count >= self.max_batch || !self.batch.has_room(len) {
            self.flush();
        }
        together
    }

    /// Adds a message that has `len` bytes with its head. About `more` others will follow.
    fn add(
        &mut self,
        message: &mut OutgoingMessage,
        head: Head<'_>,
        len: usize,
        call: Option<(MsgId, Option<Instant>)>,
        more: usize,
    ) {
        let together = self.joins(len, more);
        if let Some((id, deadline)) = call {
            self.calls.push(id);
            self.deadline = self.deadline.max(deadline);
        }
        if together {
            message.append_to(head, self.batch.begin(len, more));
        } else {
            self.push(message.with_head(head));
        }
    }

    /// Adds what a link has besides calls. Returns the bytes of items.
    #[inline]
    fn add_others(
        &mut self,
        link: &mut Link,
        slots: &mut Slab<Slot>,
        left: &mut usize,
        wakers: &mut Wakers,
    ) -> usize {
        if !link.has_more_than_calls() {
            return 0;
        }
        self.add_cancels_and_credits(link, left);
        self.add_items(link, slots, left, wakers)
    }

    /// Adds what a link has to say about its calls, and takes it from the number of messages that
    /// are `left`.
    #[cold]
    fn add_cancels_and_credits(&mut self, link: &mut Link, left: &mut usize) {
        while *left > 0
            && let Some(id) = link.cancels.pop_front()
        {
            *left -= 1;
            let more = link.cancels.len().min(*left);
            self.add_own(control::cancel(id), Head::NOTIFICATION, more);
        }
        while *left > 0
            && let Some((id, bytes)) = link.credits.pop_front()
        {
            *left -= 1;
            let more = link.credits.len().min(*left);
            self.add_own(stream::credit(id, bytes), Head::NOTIFICATION, more);
        }
    }

    /// Adds items of the streams that calls pass. Calls that wait get half of the messages. Returns
    /// the bytes of the items.
    #[cold]
    fn add_items(
        &mut self,
        link: &mut Link,
        slots: &mut Slab<Slot>,
        left: &mut usize,
        wakers: &mut Wakers,
    ) -> usize {
        let mut some = if link.queue.is_empty() { *left } else { left.div_ceil(2) };
        *left -= some;
        let mut bytes = 0;
        while some > 0
            && let Some((id, body)) = link.items.pop_front()
        {
            // What is left of a call that has ended is not sent.
            let Some(slot) = slots.get_mut(id.0).filter(|slot| slot.is_sent_on(link.id)) else {
                continue;
            };
            if let Some(outbox) = slot.outbox() {
                outbox.unsent -= body.len();
                bytes += body.len();
                if outbox.wants_items() {
                    slot.wake(wakers);
                }
            }
            some -= 1;
            self.add_body(body, some.min(link.items.len()));
        }
        *left += some;
        bytes
    }

    /// Adds a message as it is. About `more` others will follow.
    fn add_body(&mut self, body: Bytes, more: usize) {
        if self.joins(body.len(), more) {
            self.batch.begin(body.len(), more).extend_from_slice(&body);
        } else {
            self.push(body);
        }
    }

    /// Adds the current batch to the output, if there is one.
    fn flush(&mut self) {
        if let Some(body) = self.batch.take() {
            self.push(body);
        }
    }

    fn push(&mut self, body: Bytes) {
        let (calls, deadline) = (std::mem::take(&mut self.calls), self.deadline.take());
        self.out.push(Transmit { body, calls, deadline });
    }
}

/// Returns the options of a call besides its timeout. `None` if it has none.
fn options<'a>(
    extras: Option<&'a Extras>,
    params: Option<&'a [u8]>,
    instance: Option<&'a str>,
) -> Option<Options<'a>> {
    let Some(extras) = extras else {
        return params.map(|params| Options { params: Some(params), ..Options::NONE });
    };
    let key = extras.idempotency.as_deref();
    let options = Options {
        key,
        // Only the process that has run the call has its reply in the cache. A proxy may pass the
        // retry on to another one.
        instance: key.and(instance),
        params,
        meta: extras.metadata.encoded(),
        trace: extras.trace_parent.as_deref(),
        stream: None,
    };
    // An affinity key stays here.
    (options != Options::NONE).then_some(options)
}

/// Begins a try of a call with streams. Returns the time by which it must have ended, which is far
/// away if items may go to or fro for as long as they like.
#[cold]
fn begin_streams(flows: &mut Flows, options: &mut Option<Options<'_>>, now: Instant) -> Instant {
    if let Some(credit) = flows.begin() {
        options.get_or_insert(Options::NONE).stream = Some(credit);
    }
    flows.options.deadline.unwrap_or_else(|| deadline_after(now, Duration::MAX))
}

impl Calls {
    /// Moves up to `max` messages of a link to `out`. From now on, the functions of these calls may
    /// run. If there is no message, `sender` will be woken once there is something to do, and the
    /// clock `now` was not read.
    pub(crate) fn poll_transmit(
        &mut self,
        link: LinkId,
        max: usize,
        now: impl FnOnce() -> Instant,
        sender: &Waker,
        out: &mut Vec<Transmit>,
        wakers: &mut Wakers,
    ) -> LinkProgress {
        let Some(link) = self.balancer.find(link) else { return LinkProgress::default() };
        let (mut failed, now) = (Vec::new(), LazyCell::new(now));
        let PeerInfo { capabilities, max_message_size, max_batch, .. } = link.peer;
        let has_options = capabilities.contains(Capabilities::OPTIONS);
        let is_stored = capabilities.contains(Capabilities::STORED);
        let mut packer = Packer::new(out, max_batch);
        // What the carrier does not take stays in the queue: it has not run if its time is up.
        let mut left = if link.blocked.is_some() { 0 } else { max };
        if let Some(window) = &mut link.window {
            window.begin();
        }
        if std::mem::take(&mut link.ping) && capabilities.contains(Capabilities::PING) {
            let head = Head::request(MsgId(self.slots.skip_id()));
            packer.add_own(control::ping(), head, 0);
        }
        let freed = packer.add_others(link, &mut self.slots, &mut left, wakers);
        self.capacity.bytes -= freed;
        while left > 0
            && let Some(id) = link.queue.pop_front()
        {
            // A call that was cancelled has no slot any more. A call whose deadline has passed is
            // left to `handle_timeout`.
            let Some(slot) = self.slots.get_mut(id.0) else { continue };
            let NewCall { message, kind, policy, deadline, signature, flows } = &mut slot.call;
            if !matches!(slot.state, CallState::Queued) || *deadline <= *now {
                continue;
            }
            if flows.is_some() && !capabilities.contains(Capabilities::STREAMS) {
                let message = "the server, or the way to it, knows no streams";
                failed.push((id, RpcError::new(ErrorKind::Protocol, Ran::No, message)));
                continue;
            }
            let bytes = slot.charged.unwrap_or(0);
            if link.window.as_mut().is_some_and(|window| !window.fits(link.sent, bytes)) {
                link.queue.push_front(id);
                break;
            }
            let states_names =
                has_options && *kind == CallKind::Request && !link.agreed.contains(signature);
            let names = states_names.then(|| control::param_names(signature));
            slot.states_names |= states_names;
            let extras = policy.extras.as_deref().filter(|_| has_options);
            let mut options = options(extras, names.as_deref(), link.peer.instance.as_deref());
            let mut until = *deadline;
            if let Some(flows) = flows {
                until = begin_streams(flows, &mut options, *now);
                // The server has its time from now on.
                *deadline = flows.next_deadline(*now);
            }
            let head = |options| match kind {
                CallKind::Notification => Head::Notification(options),
                CallKind::Request => {
                    let time = until.saturating_duration_since(*now).as_micros().div_ceil(1_000);
                    let timeout_ms = has_options.then(|| u32::try_from(time).unwrap_or(u32::MAX));
                    Head::Request { id, timeout_ms, options }
                }
            };
            let (mut written, without_names);
            written = head(options.as_ref());
            let mut len = message.len_with(written);
            if len > max_message_size {
                // The names are left out of a request that has no room for them.
                without_names = options.map(|options| Options { params: None, ..options });
                slot.states_names = false;
                written = head(without_names.as_ref());
                len = message.len_with(written);
                if len > max_message_size {
                    failed.push((id, request_too_large(len, "server", max_message_size)));
                    continue;
                }
            }
            left -= 1;
            let call = match kind {
                // It runs whenever a server is there.
                CallKind::Notification => Some((id, None)),
                CallKind::Request => is_stored.then_some((id, Some(*deadline))),
            };
            packer.add(message, written, len, call, left.min(link.queue.len()));
            slot.state = CallState::Sent(link.id);
            slot.stored = false;
            link.sent.calls += 1;
            link.sent.bytes += bytes;
        }
        // After the requests, so that it tells of the first one that did not fit, and confirms a
        // window only if they are within it.
        if let Some(window) = &mut link.window {
            let calls = link.sent.calls + link.queue.len() + self.unrouted.len();
            let demand = Amount { calls, bytes: self.capacity.bytes };
            if let Some(report) = window.poll_report(link.sent, demand) {
                packer.add_own(control::window(report), Head::NOTIFICATION, 0);
            }
        }
        packer.flush();
        if out.is_empty() {
            link.sender = Some(sender.clone());
        }
        let progress =
            LinkProgress { draining: link.draining, awaits_replies: link.sent.calls > 0 };
        if !failed.is_empty() {
            let endpoint = Arc::clone(&link.endpoint.name);
            for (id, error) in failed {
                self.fail(id, error.at(&endpoint), wakers);
            }
        }
        if freed > 0 {
            self.admit(*now, wakers);
        }
        progress
    }
}
