//! The streams of calls: items that functions return on the way to their callers, items that
//! callers send on the way to functions, and the credit for both.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{
    arrivals::Arrivals,
    handler::HandlerResult,
    outflow::{Message, Outflow, Stalled, Unread},
    outlet::Outlet,
    peer::PeerId,
    protocol::{
        MsgId,
        request::Head,
        stream::{self, Chunk},
    },
    server::{
        admission::BytesPermit,
        completion::{Completion, Ticket},
        dispatch::{Dispatcher, Outbound, StreamPart, abort::Abort},
        executor::Execute,
        requests::{ActiveRequest, Streams},
    },
    transport::ReplyTo,
};

/// The most functions that are let go on in one check.
const RETRIES: usize = 256;

impl<E: Execute> Dispatcher<E> {
    /// Makes the way of the items that the function of a call returns. `id` is `None` for a
    /// notification, and `credit` for a caller that takes no stream.
    pub(super) fn open_outlet(
        &mut self,
        id: Option<MsgId>,
        ticket: Ticket,
        peer: &PeerId,
        credit: Option<u64>,
    ) -> Outlet {
        let limit = self.service.max_message_size;
        match (id, credit) {
            (None, _) => Outlet::dropped(),
            (Some(id), None) => Outlet::collected(id, limit),
            (Some(id), Some(credit)) => {
                let queue = self.executor.completions().clone();
                let announce = Box::new(move || queue.send(Completion::Items(ticket)));
                let unread = Unread {
                    share: Arc::clone(self.quota.items_of(peer)),
                    overhead: self.quota.overhead(),
                };
                let outflow = Outflow::new(id, credit, limit, unread, announce);
                self.change_streams(ticket, |streams| streams.outflow = Some(Arc::clone(&outflow)));
                Outlet::one_by_one(id, outflow)
            }
        }
    }

    /// Makes the way of the items that the caller sends.
    pub(super) fn open_arrivals(&mut self, ticket: Ticket) -> Arc<Arrivals> {
        let queue = self.executor.completions().clone();
        let give = Box::new(move |bytes| queue.send(Completion::Credit { ticket, bytes }));
        let arrivals = self.service.arrivals(give);
        self.change_streams(ticket, |streams| streams.arrivals = Some(Arc::clone(&arrivals)));
        arrivals
    }

    fn change_streams(&mut self, ticket: Ticket, change: impl FnOnce(&mut Streams)) {
        if let Some(request) = self.requests.get_mut(ticket) {
            change(request.streams.get_or_insert_default());
        }
    }

    /// Tells a caller that the function takes more bytes of items.
    pub(super) fn give_credit(&mut self, ticket: Ticket, bytes: u64, out: &mut Vec<Outbound>) {
        let Some(request) = self.requests.get_mut(ticket) else { return };
        let Some(caller) = request.owner.caller() else { return };
        let body = stream::credit(caller.id, bytes).into_message(Head::NOTIFICATION);
        out.push(Outbound {
            stream: Some(StreamPart { ticket, lease: None }),
            ..Outbound::new(caller.reply_to.clone(), body)
        });
        let deadline = request.arrivals().and_then(|arrivals| arrivals.deadline());
        self.requests.await_by(deadline);
    }

    /// Handles items that a client sends, or their end.
    pub(super) fn handle_items(
        &mut self,
        reply_to: &ReplyTo,
        body: &Bytes,
        params_at: usize,
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        let Some(head) = stream::read_items(body, params_at) else { return };
        let Some(ticket) = self.requests.find_newest(reply_to, head.id) else { return };
        let request = self.requests.get_mut(ticket);
        let arrivals = request.and_then(|request| request.arrivals().cloned());
        if let Some(arrivals) = arrivals.filter(|arrivals| !arrivals.is_closed()) {
            if body.len() > self.service.max_message_size {
                self.abort(ticket, Abort::LargeItem, now, out);
            } else if !self.admit_item(ticket, body.len()) {
                self.abort(ticket, Abort::NoCapacity, now, out);
            } else {
                let expected = match head.count {
                    0 => arrivals.complete(),
                    _ => arrivals.push(Chunk::new(stream::own(body.clone()), head), now),
                };
                if expected.is_err() {
                    self.abort(ticket, Abort::UnexpectedItem, now, out);
                }
            }
        }
    }

    /// Admits a message of `len` bytes with items. The window was admitted with the call, and an item
    /// that is larger than the window, of which there is one at a time, is admitted when it comes.
    fn admit_item(&mut self, ticket: Ticket, len: usize) -> bool {
        let window = self.service.stream_window;
        if len <= window {
            return true;
        }
        let Some(request) = self.requests.get_mut(ticket) else { return false };
        let peer = request.context.peer_id().clone();
        let Some(streams) = &mut request.streams else { return false };
        let before = streams.large_item.take();
        let more = (len - window).saturating_sub(before.as_ref().map_or(0, BytesPermit::bytes));
        if more == 0 {
            streams.large_item = before;
            return true;
        }
        let usage = self.requests.usage(&peer);
        let Ok(permit) = self.service.admission.admit_bytes(usage, more) else { return false };
        self.requests.add_bytes(ticket, more);
        self.change_streams(ticket, |streams| {
            streams.large_item = Some(match before {
                Some(before) => before.and(permit),
                None => permit,
            });
        });
        true
    }

    /// Sends the items of a stream to its caller.
    pub(super) fn pass_on(&mut self, ticket: Ticket, now: Instant, out: &mut Vec<Outbound>) {
        let Some(request) = self.requests.get_mut(ticket) else { return };
        let (Some(caller), Some(outflow)) = (request.owner.caller(), request.outflow()) else {
            return;
        };
        let stalled = send_items(ticket, outflow, &caller.reply_to, out);
        self.note_stalled(ticket, stalled, now);
    }

    /// Sends the last items of a stream to its caller, and the response after them.
    #[cold]
    pub(super) fn end_stream(
        &mut self,
        ticket: Ticket,
        request: ActiveRequest,
        result: HandlerResult,
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        let outflow = request.outflow().cloned();
        if let (Some(caller), Some(outflow)) = (request.owner.caller(), &outflow) {
            // Its function has ended, and waits for nothing.
            let Stalled(_) = send_items(ticket, outflow, &caller.reply_to, out);
        }
        let before = out.len();
        self.tell(request.owner, result, now, out);
        if outflow.is_some() {
            for response in &mut out[before..] {
                response.stream = Some(StreamPart { ticket, lease: None });
            }
        }
    }

    /// Ends a call of which items, or credit for them, could not be sent: its caller must not miss
    /// any unawares.
    pub(crate) fn handle_lost_part(
        &mut self,
        ticket: Ticket,
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        self.abort(ticket, Abort::Unsent, now, out);
    }

    /// Lets functions go on whose peers have read.
    pub(super) fn retry_stalled(&mut self, now: Instant) {
        let due = self.stalled.due(now);
        if due.is_empty() {
            return self.requests.await_by(self.stalled.check_at());
        }
        let (mut retries, mut still) = (RETRIES, Vec::new());
        for ticket in due {
            let request = self.requests.get_mut(ticket);
            // Those of calls that have ended are forgotten.
            let Some(outflow) = request.and_then(|request| request.outflow()) else { continue };
            let stalled = if retries > 0 { outflow.retry() } else { Stalled(true) };
            // A function that goes on fills the quota again.
            retries -= usize::from(!stalled.0 && retries > 0);
            if stalled.0 {
                still.push(ticket);
            }
        }
        self.stalled.keep(still, retries < RETRIES, now);
        self.requests.await_by(self.stalled.check_at());
    }

    fn note_stalled(&mut self, ticket: Ticket, stalled: Stalled, now: Instant) {
        self.stalled.note(ticket, stalled, now);
        self.requests.await_by(self.stalled.check_at());
    }

    /// Handles the credit that a client gives for the items of its call.
    pub(super) fn handle_credit(
        &mut self,
        reply_to: &ReplyTo,
        params: &[u8],
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        let Some((id, bytes)) = stream::read_credit(params) else { return };
        let Some(ticket) = self.requests.find_newest(reply_to, id) else { return };
        let request = self.requests.get_mut(ticket);
        if let Some(outflow) = request.and_then(|request| request.outflow()) {
            match outflow.grant(bytes) {
                Ok(stalled) => self.note_stalled(ticket, stalled, now),
                Err(()) => self.abort(ticket, Abort::TooMuchCredit, now, out),
            }
        }
    }
}

/// Takes the items of a stream into messages for its caller.
fn send_items(
    ticket: Ticket,
    outflow: &Outflow,
    caller: &ReplyTo,
    out: &mut Vec<Outbound>,
) -> Stalled {
    let (messages, stalled) = outflow.take();
    out.extend(messages.into_iter().map(|Message { body, lease }| Outbound {
        stream: Some(StreamPart { ticket, lease: Some(lease) }),
        ..Outbound::new(caller.clone(), body)
    }));
    stalled
}
