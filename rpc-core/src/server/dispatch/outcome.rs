//! Outcomes: what event loops are told of functions, and the responses to their callers.

use std::time::Instant;

use bytes::Bytes;

use crate::{
    handler::HandlerResult,
    protocol::{MsgId, control, error::WireError, request::Head, response},
    server::{
        completion::Completion,
        dispatch::{
            Dispatcher, Outbound,
            outbound::{ran, respond_again},
        },
        executor::Execute,
        requests::{Caller, Owner},
    },
};

impl<E: Execute> Dispatcher<E> {
    /// Handles a completion from the queue of this event loop.
    pub(crate) fn handle_completion(
        &mut self,
        completion: Completion,
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        match completion {
            Completion::Ended { ticket, result } => {
                let Some(request) = self.requests.remove(ticket) else { return };
                if let Err(error) = &result
                    && !matches!(request.owner, Owner::Settled)
                {
                    self.log.note_end(&request.context, error, now);
                }
                if request.streams.is_some() {
                    return self.end_stream(ticket, request, result, now, out);
                }
                self.tell(request.owner, result, now, out);
            }
            Completion::Waits => self.executor.watch(now),
            Completion::Items(ticket) => self.pass_on(ticket, now, out),
            Completion::Credit { ticket, bytes } => self.give_credit(ticket, bytes, out),
            Completion::Unwanted(ticket) => self.abort_unwanted(ticket, now, out),
            Completion::Window(id) => {
                if let Some((client, window)) = self.service.windows.take(id) {
                    let body = control::window(window).into_message(Head::NOTIFICATION);
                    out.push(Outbound::new(client, body));
                }
            }
        }
    }

    /// Passes the outcome of a request on to its owner.
    pub(super) fn tell(
        &mut self,
        owner: Owner,
        result: HandlerResult,
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        match owner {
            Owner::Caller(caller) => out.push(self.respond(caller, result)),
            Owner::Key(key) => drop(self.end_keyed(&key, result, now)),
            Owner::Waiter { caller, .. } => out.push(match result {
                // The response was made for another msgid.
                Ok(reply) => respond_again(caller, &reply),
                Err(_) => self.respond(caller, result),
            }),
            Owner::Nobody { .. } | Owner::Settled => {}
        }
    }

    pub(super) fn respond(&self, caller: Caller, result: HandlerResult) -> Outbound {
        let Caller { reply_to, id } = caller;
        Outbound::new(reply_to, self.response_body(id, result))
    }

    /// Makes the response to the request `id`. A successful result is already an encoded response.
    /// A response that is too large becomes an error.
    pub(super) fn response_body(&self, id: MsgId, result: HandlerResult) -> Bytes {
        let ran = ran(&result);
        let body = result.unwrap_or_else(|error| response::error_response(Some(id), &error));
        let (size, limit) = (body.len(), self.service.max_message_size);
        if size <= limit {
            return body;
        }
        let error = WireError::too_large("reply", ran, size, limit);
        response::error_response(Some(id), &error)
    }
}
