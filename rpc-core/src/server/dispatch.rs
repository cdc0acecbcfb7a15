//! What a server does with each message: look up, admit, choose where it runs, and answer exactly
//! once. No I/O, no threads: it is told what came and what time it is, and says what to send.

mod keyed;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;

use self::keyed::{Address, NewKey, again};
use crate::{
    context::Context,
    error::{Code, Ran, WireError},
    function::{Handler, HandlerResult, Kind},
    invocation::Invocation,
    message::{self, Malformed, Message, MsgId, batch},
    registry::{Function, Registry},
    server::{
        admission::{Admission, Held},
        builtin,
        greeted::Greeted,
        in_flight::{Caller, Entry, InFlight, Keyed},
        reply_memory::ReplyMemory,
        run::{Admitted, News, Outcome, Run, Running, Ticket, run_here},
    },
    transport::Envelope,
};

/// What all listeners of a server share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) registry: Registry,
    pub(crate) admission: Admission,
    /// In bytes, for requests and responses.
    pub(crate) max_message_size: usize,
    /// Random, so that clients can tell a restarted server from this one.
    pub(crate) instance: String,
    pub(crate) draining: AtomicBool,
    /// Locked only for requests that have a key.
    pub(crate) replies: Mutex<ReplyMemory<Address>>,
}

impl Service {
    fn replies(&self) -> MutexGuard<'_, ReplyMemory<Address>> {
        // Nothing panics while it is held.
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message to a peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) envelope: Envelope,
    pub(crate) body: Bytes,
    /// It travels in no batch.
    pub(crate) alone: bool,
}

impl Reply {
    fn new(envelope: Envelope, body: Bytes) -> Self {
        Self { envelope, body, alone: false }
    }
}

/// The state of one listener.
#[derive(Debug)]
pub(crate) struct Dispatcher<R> {
    service: Arc<Service>,
    in_flight: InFlight,
    run: R,
    greeted: Greeted,
}

/// A message whose function has been found.
struct Found {
    function: Arc<Function>,
    body: Bytes,
    params_at: usize,
    deadline: Option<Instant>,
}

impl Found {
    fn context(&self, peer: &Bytes) -> Context {
        Context::new(peer.clone(), self.function.signature().name, self.deadline)
    }
}

/// Why a request ends before its function has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Cancelled,
    PeerGone,
    TimeRanOut,
    Stopped,
}

impl Why {
    fn error(self, ran: Ran, started: bool) -> WireError {
        let (code, why) = match self {
            Self::Cancelled => (Code::Cancelled, "the caller cancelled"),
            Self::PeerGone => (Code::Cancelled, "the caller has gone"),
            Self::TimeRanOut => (Code::DeadlineExceeded, "the time ran out"),
            Self::Stopped => (Code::ShuttingDown, "the server has shut down"),
        };
        let when = if started { "while the function ran" } else { "before the function started" };
        WireError::new(code, ran, format!("{why} {when}"))
    }
}

impl<R: Run> Dispatcher<R> {
    pub(crate) fn new(service: Arc<Service>, run: R) -> Self {
        Self { service, in_flight: InFlight::new(), run, greeted: Greeted::default() }
    }

    /// Whether every function that was started has ended.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Whether somebody who said hello is still there.
    pub(crate) fn has_clients(&self) -> bool {
        !self.greeted.is_empty()
    }

    /// The functions that have not ended, and how often each.
    pub(crate) fn running(&mut self) -> BTreeMap<&'static str, usize> {
        let mut running = BTreeMap::new();
        for function in self.in_flight.functions() {
            *running.entry(function).or_default() += 1;
        }
        running
    }

    /// Whether whoever stands behind `envelope` takes several replies in one.
    pub(crate) fn takes_batches(&self, envelope: &Envelope) -> bool {
        self.greeted.takes_batches(envelope)
    }

    /// Handles a body that arrived at `now`, and tells how many messages were in it, an empty batch
    /// being one. What is to be sent at once is added to `out`; `after_each` message it may be.
    pub(crate) fn on_body(
        &mut self,
        envelope: Envelope,
        body: &Bytes,
        now: Instant,
        out: &mut Vec<Reply>,
        mut after_each: impl FnMut(&Self, &mut Vec<Reply>),
    ) -> usize {
        let Some(messages) = batch::unpack(body) else {
            self.on_message(envelope, body, now, out);
            after_each(self, out);
            return 1;
        };
        let mut count = 0;
        for message in messages {
            count += 1;
            match message {
                Ok(message) => self.on_message(envelope.clone(), &message, now, out),
                Err(reason) => out.push(Self::on_malformed(envelope.clone(), reason)),
            }
            after_each(self, out);
        }
        count.max(1)
    }

    fn on_message(&mut self, envelope: Envelope, body: &Bytes, now: Instant, out: &mut Vec<Reply>) {
        let (size, limit) = (body.len(), self.service.max_message_size);
        let message = match message::parse(body) {
            Ok(message) => message,
            Err(Malformed::Request(id, reason)) => {
                let error = WireError::new(Code::BadRequest, Ran::No, reason);
                return out.push(refuse(envelope, id, &error));
            }
            Err(Malformed::Notification(reason)) => {
                return tracing::debug!(reason, "ignored a malformed notification");
            }
        };
        match message {
            Message::Request(request) => {
                let id = request.id;
                if size > limit {
                    let error = WireError::too_large("request", Ran::No, size, limit);
                    return out.push(refuse(envelope, Some(id), &error));
                }
                let caller = Caller { envelope, id };
                if request.method.starts_with("rpc.") {
                    return self.builtin(caller, request.method, &body[request.params_at..], out);
                }
                let Some(function) = self.service.registry.find(request.method) else {
                    let error = self.unknown_function(request.method);
                    return out.push(refuse(caller.envelope, Some(id), &error));
                };
                let found = Found {
                    function: Arc::clone(function),
                    params_at: request.params_at,
                    deadline: deadline(request.timeout.or(function.signature().timeout), now),
                    body: body.clone(),
                };
                if let Some(key) = request.key {
                    return out.extend(self.start_keyed(found, caller, key, now));
                }
                let peer = caller.envelope.peer().clone();
                out.extend(self.start(found, peer, Some(caller), None, now));
            }
            Message::Notification(notification) => {
                if size > limit {
                    return tracing::debug!(
                        size,
                        limit,
                        "ignored a notification that is too large"
                    );
                }
                if notification.method == "rpc.cancel" {
                    let cancelled = builtin::cancelled_id(&body[notification.params_at..]);
                    return cancelled
                        .into_iter()
                        .for_each(|id| self.cancel(&envelope, id, now, out));
                }
                let Some(function) = self.service.registry.find(notification.method) else {
                    return tracing::debug!(
                        function = notification.method,
                        "ignored an unknown notification"
                    );
                };
                let found = Found {
                    function: Arc::clone(function),
                    params_at: notification.params_at,
                    deadline: deadline(function.signature().timeout, now),
                    body: body.clone(),
                };
                // Nobody is answered, whatever happens.
                let _ = self.start(found, envelope.peer().clone(), None, None, now);
            }
        }
    }

    /// Answers frames that hold no body, or several.
    pub(crate) fn on_malformed(envelope: Envelope, reason: &'static str) -> Reply {
        refuse(envelope, None, &WireError::new(Code::BadRequest, Ran::No, reason))
    }

    /// Runs a function, or has it run. There is no `caller` for a notification.
    fn start(
        &mut self,
        found: Found,
        peer: Bytes,
        caller: Option<Caller>,
        new_key: Option<NewKey>,
        now: Instant,
    ) -> Option<Reply> {
        let context = found.context(&peer);
        let Found { function, body, params_at, .. } = found;
        let signature = function.signature();
        let handler = function.handler();
        let id = caller.as_ref().map(|caller| caller.id);
        if self.service.draining.load(Ordering::Relaxed) {
            let error = WireError::new(Code::ShuttingDown, Ran::No, "the server is shutting down");
            return Some(self.answer(caller?, Err(error)));
        }
        let invocation = Invocation { function, body, params_at, id, context: context.clone() };
        if let (Kind::Inline, Handler::Sync(function)) = (signature.kind, handler) {
            let result = run_here(function, &invocation, now);
            let ran = result.as_ref().map_or_else(|error| error.ran, |_| Ran::Yes) != Ran::No;
            let reply = self.answer(caller?, result);
            if let Some(NewKey { key, call }) = new_key.filter(|_| ran) {
                self.service.replies().remember(key, call, &reply.body, now);
            }
            return Some(reply);
        }
        let bytes = invocation.body.len();
        let permit = match self.service.admission.admit(self.in_flight.held(&peer), bytes, now) {
            Ok(permit) => permit,
            Err(error) => return Some(self.answer(caller?, Err(error))),
        };
        let held = Held { requests: 1, bytes };
        // What has a key runs for nobody, and its caller waits for it as others may.
        let keyed = new_key.as_ref().map(|new| Keyed::Runs(new.key.clone()));
        let (caller, waiter) = if keyed.is_some() { (None, caller) } else { (caller, None) };
        let entry = Entry {
            caller,
            peer,
            context: context.clone(),
            held,
            running: None,
            keyed,
            over: false,
        };
        let ticket = self.in_flight.insert(entry);
        let work = Admitted { invocation, ticket, permit };
        let running = match handler {
            Handler::Sync(function) => self.run.run_sync(function, work),
            Handler::Async(function) => Ok(self.run.run_async(function, work)),
        };
        let Ok(running) = running else {
            let caller = self.in_flight.remove(ticket)?.caller.or(waiter)?;
            let text = "as many requests wait for a worker as may wait (max_waiting)";
            let error = WireError::overloaded(text, self.service.admission.retry_after(now));
            return Some(self.answer(caller, Err(error)));
        };
        self.in_flight.get_mut(ticket)?.running = Some(running);
        if let (Some(new_key), Some(waiter)) = (new_key, waiter) {
            self.began(new_key, ticket, context, waiter);
        }
        None
    }

    /// Lets what was handed to workers begin: once for many messages.
    pub(crate) fn begin(&mut self) {
        self.run.begin();
    }

    /// What a listener's loop was told.
    pub(crate) fn on_news(&mut self, news: News, now: Instant) -> Option<Reply> {
        match news {
            News::Outcome(outcome) => self.on_outcome(outcome, now),
            News::Unwanted(run) => {
                self.on_unwanted(run, now);
                None
            }
        }
    }

    /// A function has ended.
    fn on_outcome(&mut self, outcome: Outcome, now: Instant) -> Option<Reply> {
        let Outcome { ticket, result } = outcome;
        let Entry { caller, keyed, .. } = self.in_flight.remove(ticket)?;
        match (keyed, result) {
            (Some(Keyed::Runs(key)), result) => {
                self.ended(&key, result, now);
                None
            }
            (Some(Keyed::Waits { .. }), Ok(reply)) => Some(again(caller?, &reply)),
            (_, result) => Some(self.answer(caller?, result)),
        }
    }

    /// A peer cancels a call: what has not started never starts, an async function is dropped, and
    /// a sync one can ask its context.
    fn cancel(&mut self, envelope: &Envelope, id: MsgId, now: Instant, out: &mut Vec<Reply>) {
        for ticket in self.in_flight.find(envelope, id) {
            out.extend(self.end(ticket, Why::Cancelled, now));
        }
    }

    /// A peer has gone: nobody waits for its requests. Its notifications still run, and so does
    /// what has a key.
    pub(crate) fn on_peer_gone(&mut self, peer: &Bytes, now: Instant) {
        self.greeted.peer_gone(peer);
        for ticket in self.in_flight.of_peer(peer) {
            // Its reply has nowhere to go.
            let _ = self.end(ticket, Why::PeerGone, now);
        }
    }

    /// When [`on_time`](Self::on_time) is to be called next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.in_flight.next_deadline()
    }

    /// Answers every request whose time has run out.
    pub(crate) fn on_time(&mut self, now: Instant, out: &mut Vec<Reply>) {
        for ticket in self.in_flight.overdue(now) {
            out.extend(self.end(ticket, Why::TimeRanOut, now));
        }
    }

    /// The server begins to shut down: who said hello is told.
    pub(crate) fn goodbye(&self, out: &mut Vec<Reply>) {
        let body = builtin::goodbye();
        let goodbye = |envelope: &Envelope| Reply::new(envelope.clone(), body.clone());
        out.extend(self.greeted.iter().map(goodbye));
    }

    /// Gives up what has not ended when the time for draining has passed.
    pub(crate) fn give_up(&mut self, now: Instant, out: &mut Vec<Reply>) {
        for ticket in self.in_flight.all() {
            out.extend(self.end(ticket, Why::Stopped, now));
        }
    }

    /// Ends a request before its function has, and answers it.
    fn end(&mut self, ticket: Ticket, why: Why, now: Instant) -> Option<Reply> {
        let entry = self.in_flight.get_mut(ticket)?;
        if let Some(Keyed::Waits { key, .. }) = &entry.keyed {
            let key = key.clone();
            return self.leave(ticket, &key, why);
        }
        // It ends now, even if the function runs on.
        let keyed = entry.keyed.take();
        let started = entry.context.cancel();
        let running = entry.running.as_ref()?;
        self.run.stop(running);
        // A sync function that has started runs on, and keeps its entry until it returns.
        let caller = if started && matches!(running, Running::Job(_)) {
            self.in_flight.take_caller(ticket)
        } else {
            self.in_flight.remove(ticket)?.caller
        };
        let error = why.error(if started { Ran::Yes } else { Ran::No }, started);
        if let Some(Keyed::Runs(key)) = keyed {
            self.ended(&key, Err(error), now);
            return None;
        }
        Some(self.answer(caller?, Err(error)))
    }

    fn answer(&self, caller: Caller, result: HandlerResult) -> Reply {
        let Caller { envelope, id } = caller;
        Reply::new(envelope, self.reply(id, result))
    }

    /// The response to the request `id`, which a result has in it already.
    fn reply(&self, id: MsgId, result: HandlerResult) -> Bytes {
        let ran = result.as_ref().map_or_else(|error| error.ran, |_| Ran::Yes);
        let body = result.unwrap_or_else(|error| message::error_response(Some(id), &error));
        let (size, limit) = (body.len(), self.service.max_message_size);
        if size <= limit {
            return body;
        }
        message::error_response(Some(id), &WireError::too_large("reply", ran, size, limit))
    }

    fn builtin(&mut self, caller: Caller, method: &str, params: &[u8], out: &mut Vec<Reply>) {
        let id = caller.id;
        let envelope = caller.envelope.clone();
        let result = match builtin::answer(&self.service, method, params) {
            Some(result) => result.map(|result| message::response(id, &result)),
            None => Err(self.unknown_function(method)),
        };
        if method != builtin::HELLO {
            return out.push(self.answer(caller, result));
        }
        // Whatever the limit is: this is how the client learns of it.
        let body = result.unwrap_or_else(|error| message::error_response(Some(id), &error));
        // Alone, because it says whether batches may be sent.
        out.push(Reply { envelope: envelope.clone(), body, alone: true });
        if self.service.draining.load(Ordering::Relaxed) {
            out.push(Reply::new(envelope.clone(), builtin::goodbye()));
        }
        self.greeted.add(&envelope, builtin::greeting(params));
    }

    fn unknown_function(&self, name: &str) -> WireError {
        let nearest = self.service.registry.nearest(name);
        // The name is a stranger's: it is cut, so that the answer stays small.
        let shown: String = name.chars().take(64).collect();
        let text = match nearest.as_slice() {
            [] => format!("there is no function `{shown}`"),
            near => {
                format!("there is no function `{shown}`; did you mean `{}`?", near.join("` or `"))
            }
        };
        WireError::new(Code::UnknownFunction, Ran::No, text)
    }
}

fn deadline(timeout: Option<Duration>, now: Instant) -> Option<Instant> {
    // A timeout that no clock can hold never ends.
    now.checked_add(timeout?)
}

fn refuse(envelope: Envelope, id: Option<MsgId>, error: &WireError) -> Reply {
    Reply::new(envelope, message::error_response(id, error))
}

#[cfg(test)]
mod tests;
