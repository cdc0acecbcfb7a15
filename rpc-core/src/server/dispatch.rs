//! The dispatcher. For each request it looks up the function, admits the call, starts the function,
//! and answers exactly once.
//!
//! No I/O, no threads, no clock: the event loop passes in the messages and the time, and sends the
//! outbound messages that the dispatcher adds to `out`.

mod abort;
mod call;
mod draining;
mod keyed;
mod outbound;
mod outcome;
mod reserved;
mod stalled;
mod streams;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{
    context::Context,
    error::Ran,
    function::Execution,
    handler::{Handler, HandlerResult, Invocation},
    protocol::{
        MsgId, control,
        error::{Code, WireError},
        request::{self, ClientMessage, Malformed},
        stream,
    },
    server::{
        admission, agreement,
        completion::Ticket,
        error_log::ErrorLog,
        executor::Execute,
        gate,
        invoke::{AdmittedCall, run_inline},
        quota::EgressQuota,
        requests::{ActiveRequest, Caller, Owner, Requests},
        service::Service,
        sessions::Sessions,
        watched_call::Facts,
    },
    transport::ReplyTo,
    usage::Usage,
};

pub(crate) use self::outbound::{Outbound, StreamPart};
use self::{
    call::Call,
    outbound::{bad_request, refuse},
    stalled::StalledStreams,
};

/// The dispatcher of one listener, with its requests and sessions.
#[derive(Debug)]
pub(crate) struct Dispatcher<E> {
    service: Arc<Service>,
    requests: Requests,
    executor: E,
    sessions: Sessions,
    quota: EgressQuota,
    stalled: StalledStreams,
    log: ErrorLog,
    /// The time at which the server began to drain.
    draining_since: Option<Instant>,
}

/// The result of starting a function.
enum Start {
    /// The outcome follows with a completion.
    Running(Ticket),
    /// The function was inline, or the call was refused. This is the outcome.
    Over(Owner, HandlerResult),
}

impl<E: Execute> Dispatcher<E> {
    pub(crate) fn new(service: Arc<Service>, executor: E) -> Self {
        Self {
            log: ErrorLog::new(service.hooks.clone()),
            quota: EgressQuota::new(service.unread.clone()),
            stalled: StalledStreams::new(),
            service,
            requests: Requests::new(),
            executor,
            sessions: Sessions::default(),
            draining_since: None,
        }
    }

    /// Returns true if no request is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// Returns the sessions: the clients that sent `rpc.hello` and are still connected.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Returns what egress needs to know about the clients.
    pub(crate) fn sessions_and_quota(&mut self) -> (&Sessions, &mut EgressQuota) {
        (&self.sessions, &mut self.quota)
    }

    /// Returns the number of functions that have not ended, by name.
    pub(crate) fn running(&mut self) -> BTreeMap<&'static str, usize> {
        let mut running = BTreeMap::new();
        for function in self.requests.functions() {
            *running.entry(function).or_default() += 1;
        }
        running
    }

    /// Handles a message that arrived at `now`.
    pub(crate) fn handle_message(
        &mut self,
        reply_to: ReplyTo,
        body: &Bytes,
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        match request::parse(body) {
            Ok(ClientMessage::Request(request)) => {
                self.handle_request(reply_to, body, &request, now, out);
            }
            Ok(ClientMessage::Notification(notification)) => {
                self.handle_notification(&reply_to, body, &notification, now, out);
            }
            Err(Malformed::Request(id, reason)) => {
                self.handle_malformed(reply_to, id, reason, now, out);
            }
            Err(Malformed::Notification(reason)) => {
                reply_to.reject();
                tracing::debug!(reason, "ignored a malformed notification");
            }
        }
    }

    /// Answers frames or bytes that contain no message, or a malformed one.
    pub(crate) fn handle_malformed(
        &mut self,
        reply_to: ReplyTo,
        id: Option<MsgId>,
        reason: &'static str,
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        let error = bad_request(reason);
        self.log.refused("", reply_to.peer(), &error, now);
        reply_to.reject();
        out.push(refuse(reply_to, id, &error));
    }

    fn handle_request(
        &mut self,
        reply_to: ReplyTo,
        body: &Bytes,
        request: &request::Request<'_>,
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        let request::Request { id, method, timeout, ref options, params_at } = *request;
        let options = options.as_deref();
        let mut timeout = timeout;
        if let Some(delivery) = reply_to.delivery() {
            if !delivery.is_answerable() {
                delivery.reject();
                return tracing::warn!(
                    function = method,
                    "ignored a request that names no address for its reply"
                );
            }
            // What the request has waited is no time that its function has.
            timeout = timeout.map(|timeout| timeout.saturating_sub(delivery.waited()));
        }
        let caller = Caller { reply_to, id };
        let (size, limit) = (body.len(), self.service.max_message_size);
        if size > limit {
            let error = WireError::too_large("request", Ran::No, size, limit);
            return self.refuse(caller, method, &error, now, out);
        }
        if control::is_reserved(method) {
            return self.call_builtin(caller, method, &body[params_at..], out);
        }
        if !self.service.gate.permits(caller.reply_to.peer(), method) {
            return self.refuse(caller, method, &gate::denied(), now, out);
        }
        let Some(function) = self.service.registry.find(method) else {
            let error = self.service.not_found(caller.reply_to.peer(), method);
            return self.refuse(caller, method, &error, now, out);
        };
        if let Err(error) = self.service.gate.check_limits(caller.reply_to.peer(), size, now) {
            return self.refuse(caller, method, &error, now, out);
        }
        if let Some(options) = options
            && let Err(error) = agreement::check(&self.service, function.signature(), options)
        {
            return self.refuse(caller, method, &error, now, out);
        }
        let mut call = Call::new(function, body, params_at, timeout, options, now);
        if let Some(key) = options.and_then(|options| options.key) {
            return self.handle_keyed(call, caller, key, now, out);
        }
        let context = call.context(caller.reply_to.peer());
        if let Start::Over(owner, result) = self.start(call, context, Owner::Caller(caller), now) {
            self.tell(owner, result, now, out);
        }
    }

    fn handle_notification(
        &mut self,
        reply_to: &ReplyTo,
        body: &Bytes,
        notification: &request::Notification<'_>,
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        let request::Notification { method, ref options, params_at } = *notification;
        let (size, limit) = (body.len(), self.service.max_message_size);
        // The call of an item that is too large is told.
        if size > limit && method != control::ITEM {
            reply_to.reject();
            return tracing::debug!(size, limit, "ignored a notification that is too large");
        }
        if control::is_reserved(method) {
            return self.handle_control(reply_to, body, method, params_at, now, out);
        }
        if !self.service.gate.permits(reply_to.peer(), method) {
            return self.log.refused(method, reply_to.peer(), &gate::denied(), now);
        }
        let Some(function) = self.service.registry.find(method) else {
            reply_to.reject();
            return tracing::debug!(function = method, "ignored an unknown notification");
        };
        if let Err(error) = self.service.gate.check_limits(reply_to.peer(), size, now) {
            return self.log.refused(method, reply_to.peer(), &error, now);
        }
        let mut call = Call::new(function, body, params_at, None, options.as_deref(), now);
        let context = call.context(reply_to.peer());
        let owner = Owner::Nobody { _address: reply_to.clone() };
        // Nobody is told of the outcome, and a carrier that stores messages keeps what was not run.
        if let Start::Over(_, Err(WireError { ran: Ran::No, .. })) =
            self.start(call, context, owner, now)
        {
            reply_to.reject();
        }
    }

    /// Refuses a request that was never a call.
    fn refuse(
        &mut self,
        caller: Caller,
        method: &str,
        error: &WireError,
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        self.log.refused(method, caller.reply_to.peer(), error, now);
        out.push(refuse(caller.reply_to, Some(caller.id), error));
    }

    /// Starts a function, whose outcome goes to `owner`.
    fn start(&mut self, call: Call, context: Context, owner: Owner, now: Instant) -> Start {
        let Call { function, body, params_at, stream: credit, .. } = call;
        if self.is_closed_to(context.peer_id(), now) {
            let error = WireError::new(Code::ShuttingDown, Ran::No, "the server is shutting down");
            return self.over(owner, &context, Err(error), now);
        }
        let (execution, handler) = (function.signature().execution, function.handler());
        let mut bytes = body.len();
        // A notification has no msgid, and so no response. A keyed call has the msgid 0: each
        // waiter is sent the response with its own msgid.
        let id = match &owner {
            Owner::Nobody { .. } => None,
            owner => Some(owner.caller().map_or(MsgId(0), |caller| caller.id)),
        };
        let mut invocation = Invocation { function, body, params_at, id, context, arrivals: None };
        let facts = Facts::new(self.service.hooks.as_ref(), &invocation, now);
        if let (Execution::Inline, Handler::Sync(function)) = (execution, handler) {
            let result = run_inline(function, &invocation, facts, now);
            return self.over(owner, invocation.context(), result, now);
        }
        if invocation.function.entry.takes_stream || matches!(handler, Handler::Stream(_)) {
            // It keeps its request for as long as it lasts.
            invocation.body = stream::own(invocation.body);
        }
        let caller = if let Owner::Caller(caller) = &owner { Some(&caller.reply_to) } else { None };
        // Items through a proxy may reach another server, and the function would miss them. Credit
        // may too, but then the caller gets no more items, and notices.
        let takes_stream =
            invocation.function.entry.takes_stream && caller.is_some_and(ReplyTo::is_direct);
        let credit = credit.filter(|_| caller.is_some_and(|caller| caller.delivery().is_none()));
        if takes_stream {
            bytes = self.service.with_stream(bytes);
        }
        let usage = self.requests.usage(invocation.context().peer_id());
        let permit = match self.service.admission.admit(usage, bytes) {
            Ok(permit) => permit,
            Err(error) => return self.over(owner, invocation.context(), Err(error), now),
        };
        let usage = Usage { requests: 1, bytes };
        let context = invocation.context().clone();
        let request = ActiveRequest { owner, context, usage, started: None, streams: None };
        let ticket = self.requests.insert(request);
        if takes_stream {
            invocation.arrivals = Some(self.open_arrivals(ticket));
        }
        let admitted = AdmittedCall { invocation, ticket, permit, facts };
        let started = match handler {
            Handler::Sync(function) => self.executor.run_sync(function, admitted),
            Handler::Async(function) => Ok(self.executor.run_async(function, admitted)),
            Handler::Stream(function) => {
                let peer = admitted.invocation.context().peer_id();
                let outlet = self.open_outlet(id, ticket, peer, credit);
                self.executor.run_stream(function, execution, outlet, admitted)
            }
        };
        if let Ok(started) = started {
            self.requests.started(ticket, started);
            return Start::Running(ticket);
        }
        let text = "as many requests wait for a worker as may wait (max_waiting)";
        let error = Err(admission::overloaded(text));
        match self.requests.remove(ticket) {
            Some(request) => self.over(request.owner, &request.context, error, now),
            None => Start::Over(Owner::Settled, error),
        }
    }

    /// Ends a call that has its outcome already.
    fn over(
        &mut self,
        owner: Owner,
        context: &Context,
        result: HandlerResult,
        now: Instant,
    ) -> Start {
        if let Err(error) = &result {
            self.log.note_end(context, error, now);
        }
        Start::Over(owner, result)
    }

    /// Divides the windows of the clients anew, if clients came, went or asked. The event loop calls
    /// this once in each turn.
    pub(crate) fn divide_windows(&self) {
        self.service.windows.divide();
    }

    /// Wakes workers for the functions that were started. The event loop calls this once for many
    /// messages.
    pub(crate) fn flush_executor(&mut self, now: Instant) {
        self.executor.flush(now);
    }

    /// Returns the time at which [`handle_timeout`](Self::handle_timeout) must be called next.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let timeouts = [self.requests.next_deadline(), self.executor.next_timeout()];
        timeouts.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
