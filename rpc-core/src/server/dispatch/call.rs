//! A call of a function that the server has, before it is started.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    context::{Context, Sent},
    handler::Function,
    peer::PeerId,
    protocol::{metadata::Metadata, request},
};

/// A request or notification for a function that the server has.
pub(super) struct Call {
    pub(super) function: Arc<Function>,
    pub(super) body: Bytes,
    pub(super) params_at: usize,
    /// The credit for items, if the caller has asked for a stream.
    pub(super) stream: Option<u64>,
    deadline: Option<Instant>,
    sent: Option<Box<Sent>>,
}

impl Call {
    /// Makes a call that arrived at `now`. The timeout of the caller takes precedence over the
    /// timeout of the function.
    #[inline]
    pub(super) fn new(
        function: &Arc<Function>,
        body: &Bytes,
        params_at: usize,
        timeout: Option<Duration>,
        options: Option<&request::Options<'_>>,
        now: Instant,
    ) -> Self {
        let timeout = timeout.or(function.signature().timeout);
        // A timeout beyond the range of the clock means no deadline.
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        let sent = options.and_then(sent);
        let stream = options.and_then(|options| options.stream);
        let function = Arc::clone(function);
        Self { function, body: body.clone(), params_at, stream, deadline, sent }
    }

    #[inline]
    pub(super) fn context(&mut self, peer: &PeerId) -> Context {
        let sent = self.sent.take();
        Context::with(peer.clone(), self.function.signature().name, self.deadline, sent)
    }
}

/// Copies what the options of a request say to its function, so that the rest of the request can be
/// freed before that.
fn sent(options: &request::Options<'_>) -> Option<Box<Sent>> {
    let request::Options { meta, trace, .. } = *options;
    if meta.is_none() && trace.is_none() {
        return None;
    }
    let metadata = meta.map(Metadata::received).unwrap_or_default();
    Some(Box::new(Sent { metadata, trace_parent: trace.map(Box::from) }))
}
