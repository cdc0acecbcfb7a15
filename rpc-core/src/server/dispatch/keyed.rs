//! The dispatch of requests with an idempotency key. See
//! [`idempotency`](crate::server::idempotency).

use std::time::Instant;

use bytes::Bytes;

use crate::{
    context::Context,
    error::Ran,
    handler::HandlerResult,
    protocol::{
        MsgId,
        error::{Code, WireError},
    },
    server::{
        admission::{self, Permit},
        completion::{Completion, RequestAddress, Ticket},
        dispatch::{
            Call, Dispatcher, Outbound, Start,
            abort::Abort,
            outbound::{ran, respond_again},
        },
        executor::Execute,
        idempotency::Key,
        reply_cache::Lookup,
        requests::{ActiveRequest, Caller, Owner},
    },
    usage::Usage,
};

impl<E: Execute> Dispatcher<E> {
    /// Handles a request with an idempotency key. If the call has ended, answers with its reply. If
    /// it runs, waits for its completion. Otherwise starts it.
    pub(super) fn handle_keyed(
        &mut self,
        mut call: Call,
        caller: Caller,
        key: &[u8],
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        let (function, params) = (call.function.signature().name, &call.body[call.params_at..]);
        // All event loops of a server share one thread. So no other one can end the call between
        // this lookup and the `join` in `wait`.
        let peer = caller.reply_to.peer();
        let (key, found) =
            self.service.idempotency.lookup_or_begin(peer, key, function, params, now);
        let error = match found {
            Lookup::Begun => {
                let context = call.context(caller.reply_to.peer());
                let owner = Owner::Key(key.clone());
                return match self.start(call, context.clone(), owner, now) {
                    Start::Running(run) => {
                        self.wait(caller, &context, &key, None);
                        let run = self.address(run);
                        self.service.idempotency.attach(&key, run, context);
                    }
                    // Nobody waits yet.
                    Start::Over(_, result) => {
                        let reply = self.end_keyed(&key, result, now);
                        out.push(respond_again(caller, &reply));
                    }
                };
            }
            Lookup::Ended(reply) => return out.push(respond_again(caller, &reply)),
            Lookup::Running => {
                let usage = self.requests.usage(caller.reply_to.peer());
                match self.service.admission.admit(usage, 0) {
                    Ok(permit) => {
                        let context = call.context(caller.reply_to.peer());
                        return self.wait(caller, &context, &key, Some(permit));
                    }
                    Err(error) => error,
                }
            }
            Lookup::OtherCall => WireError::new(
                Code::BadRequest,
                Ran::No,
                "the idempotency key was used for another call: each needs one of its own",
            ),
            Lookup::Full => {
                admission::overloaded("as many calls with a key run as the server remembers")
            }
        };
        self.refuse(caller, function, &error, now, out);
    }

    /// Adds a request that waits for the completion of the call with `key`.
    fn wait(&mut self, caller: Caller, context: &Context, key: &Key, permit: Option<Permit>) {
        let usage = Usage { requests: usize::from(permit.is_some()), bytes: 0 };
        let peer = caller.reply_to.peer().clone();
        // The request has a context of its own, because it can be cancelled independently of the
        // call.
        let context = Context::new(peer, context.function(), context.deadline());
        let owner = Owner::Waiter { caller, key: key.clone(), _permit: permit };
        let request = ActiveRequest { owner, context, usage, started: None, streams: None };
        let ticket = self.requests.insert(request);
        self.service.idempotency.join(key, self.address(ticket));
    }

    /// Returns the address of a request of this event loop.
    fn address(&self, ticket: Ticket) -> RequestAddress {
        RequestAddress { queue: self.executor.completions().clone(), ticket }
    }

    /// Ends a request that waits for a call, and answers its caller. The function continues for the
    /// other waiters. It also continues without waiters, for a retry, unless the last waiter has
    /// cancelled.
    pub(super) fn abort_waiter(
        &mut self,
        ticket: Ticket,
        key: &Key,
        reason: Abort,
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        // If the call has ended, the completion for this request is in the queue already.
        let left = self.service.idempotency.leave(key, &self.address(ticket));
        let Some(departure) = left else { return };
        if let (Abort::Cancelled, Some(RequestAddress { queue, ticket })) =
            (reason, departure.unwanted)
        {
            queue.send(Completion::Unwanted(ticket));
        }
        // A function that has not started may still start.
        let ran = if departure.started { Ran::Yes } else { Ran::Maybe };
        if let Some(request) = self.requests.remove(ticket) {
            let error = reason.error(ran, departure.started);
            self.tell(request.owner, Err(error), now, out);
        }
    }

    /// Stops a function that this listener runs, unless another request waits for it in the
    /// meantime.
    pub(super) fn abort_unwanted(&mut self, run: Ticket, now: Instant, out: &mut Vec<Outbound>) {
        let Some(ActiveRequest { owner: Owner::Key(key), .. }) = self.requests.get_mut(run) else {
            return;
        };
        if !self.service.idempotency.is_wanted(key) {
            self.abort(run, Abort::Cancelled, now, out);
        }
    }

    /// Ends a call. Its reply is kept if the function has run, and every request that waits for it
    /// is sent a completion.
    pub(super) fn end_keyed(&mut self, key: &Key, result: HandlerResult, now: Instant) -> Bytes {
        let has_run = ran(&result) != Ran::No;
        // The msgid is a placeholder: each waiter replaces it by its own.
        let reply = self.response_body(MsgId(0), result);
        self.service.idempotency.end(key, &reply, has_run, now);
        reply
    }
}
