//! Calls with an idempotency key: run once, and answered to whoever asks. The function runs for
//! nobody, as a notification does, and everyone who asks waits for its outcome: the first as well
//! as a retry on another connection or listener.

use std::time::Instant;

use crate::{
    context::Context,
    error::{Code, Ran, WireError},
    function::HandlerResult,
    message::{self, MsgId},
    server::{
        admission::{Held, Permit},
        dispatch::{Dispatcher, Found, Reply, Why},
        in_flight::{Caller, Entry, Keyed},
        outbox::Outbox,
        reply_memory::{Fingerprint, Key, Known},
        run::{News, Outcome, Run, Ticket},
    },
};

/// A key that is new, and the call that it names.
pub(super) struct NewKey {
    pub(super) key: Key,
    pub(super) call: Fingerprint,
}

/// An entry of a listener, in flight: one that waits for an outcome, or the one that runs.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    outbox: Outbox,
    ticket: Ticket,
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.ticket == other.ticket && self.outbox.is_same(&other.outbox)
    }
}

impl Address {
    fn tell(&self, news: impl FnOnce(Ticket) -> News) {
        self.outbox.send(news(self.ticket));
    }
}

impl<R: Run> Dispatcher<R> {
    /// Answers a call that has run, waits for one that runs, or starts it.
    pub(super) fn start_keyed(
        &mut self,
        found: Found,
        caller: Caller,
        key: &[u8],
        now: Instant,
    ) -> Option<Reply> {
        let params = &found.body[found.params_at..];
        let (call, known) = {
            let mut replies = self.service.replies();
            let call = replies.fingerprint(found.function.signature().name, params);
            (call, replies.look(key, call, now))
        };
        // A slice of the request would keep all of that.
        let key = Key::copy_from_slice(key);
        // Nothing comes between this look and what is done about it: the listeners share one
        // thread.
        let error = match known {
            Known::Nothing => {
                let peer = caller.envelope.peer().clone();
                return self.start(found, peer, Some(caller), Some(NewKey { key, call }), now);
            }
            Known::Ended(reply) => return Some(again(caller, &reply)),
            Known::Running => {
                let held = self.in_flight.held(caller.envelope.peer());
                match self.service.admission.admit(held, 0, now) {
                    Ok(permit) => {
                        let context = found.context(caller.envelope.peer());
                        let waiter = self.wait(caller, context, key.clone(), Some(permit));
                        self.service.replies().join(&key, waiter);
                        return None;
                    }
                    Err(error) => error,
                }
            }
            Known::OtherCall => WireError::new(
                Code::BadRequest,
                Ran::No,
                "the idempotency key was used for another call: each needs one of its own",
            ),
            Known::Full => {
                let text = "as many calls with a key run as the server remembers";
                WireError::overloaded(text, self.service.admission.retry_after(now))
            }
        };
        Some(self.answer(caller, Err(error)))
    }

    /// Notes that a call with a new key was started as `run`, and lets its caller wait for it.
    pub(super) fn began(&mut self, new: NewKey, run: Ticket, context: Context, caller: Caller) {
        // Its own context, because it can be cancelled alone.
        let own =
            Context::new(caller.envelope.peer().clone(), context.function(), context.deadline());
        let waiter = self.wait(caller, own, new.key.clone(), None);
        let run = self.address(run);
        self.service.replies().begin(new.key, new.call, context, run, waiter);
    }

    fn wait(
        &mut self,
        caller: Caller,
        context: Context,
        key: Key,
        permit: Option<Permit>,
    ) -> Address {
        let held = Held { requests: usize::from(permit.is_some()), bytes: 0 };
        let ticket = self.in_flight.insert(Entry {
            peer: caller.envelope.peer().clone(),
            caller: Some(caller),
            context,
            held,
            running: None,
            keyed: Some(Keyed::Waits { key, _permit: permit }),
            over: false,
        });
        self.address(ticket)
    }

    fn address(&self, ticket: Ticket) -> Address {
        Address { outbox: self.run.outbox().clone(), ticket }
    }

    /// Ends the waiting of one caller. The function runs on for the others, and if its caller has
    /// gone or its time has run out, for a retry.
    pub(super) fn leave(&mut self, ticket: Ticket, key: &Key, why: Why) -> Option<Reply> {
        // If the call has ended, its outcome is on its way here.
        let left = self.service.replies().leave(key, &self.address(ticket))?;
        if let (Why::Cancelled, Some(run)) = (why, left.unwanted) {
            run.tell(News::Unwanted);
        }
        let caller = self.in_flight.remove(ticket)?.caller?;
        // What has not started may still start.
        let ran = if left.started { Ran::Yes } else { Ran::Maybe };
        Some(self.answer(caller, Err(why.error(ran, left.started))))
    }

    /// Nobody waited any more for a function that this listener runs, when this was sent.
    pub(crate) fn on_unwanted(&mut self, run: Ticket, now: Instant) {
        let Some(Entry { keyed: Some(Keyed::Runs(key)), .. }) = self.in_flight.get_mut(run) else {
            return;
        };
        if !self.service.replies().is_wanted(key) {
            // Its callers were answered: there is nobody to reply to.
            let _ = self.end(run, Why::Cancelled, now);
        }
    }

    /// A call with a key has ended: it is remembered if it ran, and whoever waits for it is told.
    pub(super) fn ended(&mut self, key: &Key, result: HandlerResult, now: Instant) {
        let ran = result.as_ref().map_or_else(|error| error.ran, |_| Ran::Yes) != Ran::No;
        let reply = self.reply(MsgId(0), result);
        let waiters = self.service.replies().end(key, &reply, ran, now);
        for waiter in waiters {
            waiter.tell(|ticket| News::Outcome(Outcome { ticket, result: Ok(reply.clone()) }));
        }
    }
}

/// The response that another request got, for this one.
pub(super) fn again(caller: Caller, response: &[u8]) -> Reply {
    Reply::new(caller.envelope, message::with_id(response, caller.id))
}
