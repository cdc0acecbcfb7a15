//! The dispatch of the protocol's own requests and notifications: hello, ping, discover, cancel and
//! windows.

use std::time::Instant;

use bytes::Bytes;

use crate::{
    protocol::{
        control::{self, Capabilities, Window},
        response,
    },
    server::{
        builtin,
        dispatch::{Dispatcher, Outbound},
        executor::Execute,
        requests::Caller,
    },
    transport::ReplyTo,
};

impl<E: Execute> Dispatcher<E> {
    /// Handles a notification of the protocol. Those that this version does not know are ignored.
    pub(super) fn handle_control(
        &mut self,
        reply_to: &ReplyTo,
        body: &Bytes,
        method: &str,
        params_at: usize,
        now: Instant,
        out: &mut Vec<Outbound>,
    ) {
        let params = &body[params_at..];
        match method {
            control::CANCEL => {
                if let Some(id) = control::read_cancel(params) {
                    self.cancel(reply_to, id, now, out);
                }
            }
            control::ITEM => self.handle_items(reply_to, body, params_at, now, out),
            control::CREDIT => self.handle_credit(reply_to, params, now, out),
            control::WINDOW => {
                if let (Some(window), Some(report)) =
                    (self.sessions.window(reply_to), control::read_window(params))
                {
                    window.handle_report(report);
                }
            }
            _ => {}
        }
    }

    /// Answers a request for a function of the protocol.
    pub(super) fn call_builtin(
        &mut self,
        caller: Caller,
        method: &str,
        params: &[u8],
        out: &mut Vec<Outbound>,
    ) {
        let id = caller.id;
        let is_hello = method == control::HELLO;
        let window = is_hello.then(|| self.open_session(&caller.reply_to, params)).flatten();
        let result =
            match builtin::call(&self.service, caller.reply_to.peer(), method, params, window) {
                Some(result) => result.map(|result| response::response(id, &result)),
                None => Err(self.service.not_found(caller.reply_to.peer(), method)),
            };
        if !is_hello {
            return out.push(self.respond(caller, result));
        }
        let Caller { reply_to, id } = caller;
        // The size is not checked against the limit, because the client learns the limit from this
        // response.
        let body = result.unwrap_or_else(|error| response::error_response(Some(id), &error));
        // Not in a batch, because this response tells the client whether batches are supported.
        out.push(Outbound { alone: true, ..Outbound::new(reply_to.clone(), body) });
        if self.is_draining() {
            out.push(Outbound::new(reply_to, control::go_away()));
        }
    }

    /// Opens the session of a client that said hello. Returns its window if it keeps to one.
    ///
    /// A client behind a proxy gets no window. Its messages may reach several servers, and its
    /// departure is not noticed. One behind a carrier that stores messages gets no session for the
    /// same reasons.
    fn open_session(&mut self, client: &ReplyTo, params: &[u8]) -> Option<Window> {
        if client.delivery().is_some() {
            return None;
        }
        let capabilities = control::read_client_hello(params);
        let opened = self.sessions.open(client, capabilities);
        if !opened || !capabilities.contains(Capabilities::WINDOWS) || !client.is_direct() {
            return None;
        }
        let queue = self.executor.completions().clone();
        let (window, first) = self.service.windows.open(client.detached(), queue);
        self.sessions.set_window(client, window);
        Some(first)
    }
}
