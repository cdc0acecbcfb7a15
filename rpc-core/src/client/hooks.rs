//! Hooks: code of the program that sees every call of a client.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{Span, level_filters::LevelFilter};

#[cfg(feature = "metrics")]
use crate::protocol::error::known;
use crate::{
    client::{
        calls::{CallKind, Outcome, Reply, retry::Extras},
        span,
    },
    error::{ErrorKind, RpcError},
    protocol::{
        error::code_of,
        metadata::{self, Value},
        response,
    },
    util::panics,
};

/// Code that a client runs around each call: to add a token, to carry a trace, to count.
///
/// A hook is added with [`ClientBuilder::hook`](crate::ClientBuilder::hook). Several hooks run in
/// the order in which they were added, and after the call in the opposite order. A client without
/// hooks pays nothing for them.
///
/// The methods run in the task or thread of the caller, and must not wait. A panic is caught.
///
/// ```
/// use rpc_core::{Client, ClientHook, StartingCall};
///
/// struct Token(String);
///
/// impl ClientHook for Token {
///     fn before(&self, call: &mut StartingCall<'_>) {
///         call.metadata("token", &self.0);
///     }
/// }
///
/// # fn example() -> Result<Client, rpc_core::RpcError> {
/// Client::builder().hook(Token("secret".to_owned())).connect_lazy("tcp://127.0.0.1:5555")
/// # }
/// ```
pub trait ClientHook: Send + Sync + 'static {
    /// Runs when a call is first polled, before it is sent. What it adds is sent with all tries.
    fn before(&self, call: &mut StartingCall<'_>) {
        let _ = call;
    }

    /// Runs when a call has ended, or was dropped.
    fn after(&self, call: &EndedCall<'_>) {
        let _ = call;
    }
}

impl<T: ClientHook + ?Sized> ClientHook for Arc<T> {
    fn before(&self, call: &mut StartingCall<'_>) {
        (**self).before(call);
    }

    fn after(&self, call: &EndedCall<'_>) {
        (**self).after(call);
    }
}

/// A call that begins, as a [`ClientHook`] sees it.
#[derive(Debug)]
pub struct StartingCall<'a> {
    function: &'a str,
    kind: CallKind,
    extras: &'a mut Option<Box<Extras>>,
    span: &'a Span,
}

impl StartingCall<'_> {
    /// Returns the wire name of the function.
    #[must_use]
    pub fn function(&self) -> &str {
        self.function
    }

    /// Returns true if the call is a notification, which gets no reply.
    #[must_use]
    pub fn is_notification(&self) -> bool {
        self.kind == CallKind::Notification
    }

    /// Sends a text with the call. See [`Call::metadata`](crate::Call::metadata).
    pub fn metadata(&mut self, name: &str, value: &str) {
        self.extras().metadata.set(name, Value::Text(value));
    }

    /// Sends bytes with the call. See [`Call::metadata`](crate::Call::metadata).
    pub fn metadata_bytes(&mut self, name: &str, value: &[u8]) {
        self.extras().metadata.set(name, Value::Bytes(value));
    }

    /// Sends a [`traceparent`](https://www.w3.org/TR/trace-context/#traceparent-header) with the
    /// call, which the server reads with [`Context::trace_parent`](crate::Context::trace_parent). A
    /// text that is none is not sent.
    pub fn set_trace_parent(&mut self, text: &str) {
        if metadata::is_trace_parent(text) {
            self.extras().trace_parent = Some(text.into());
        }
    }

    /// Returns the span `rpc.client` of the call. It is disabled if no subscriber wants it.
    #[must_use]
    pub fn span(&self) -> &Span {
        self.span
    }

    fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }
}

/// A call that has ended, as a [`ClientHook`] sees it.
#[derive(Debug)]
pub struct EndedCall<'a> {
    function: &'a str,
    kind: CallKind,
    end: End<'a>,
    took: Duration,
    span: &'a Span,
}

#[derive(Debug)]
enum End<'a> {
    Replied(&'a Reply),
    /// The reply reports this error.
    Refused(&'a Reply, RpcError),
    Failed(&'a RpcError),
    Dropped,
}

impl EndedCall<'_> {
    /// Returns the wire name of the function.
    #[must_use]
    pub fn function(&self) -> &str {
        self.function
    }

    /// Returns true if the call is a notification. Its end says that it was sent.
    #[must_use]
    pub fn is_notification(&self) -> bool {
        self.kind == CallKind::Notification
    }

    /// Returns the code of the error: that of the server, as PROTOCOL.md lists them, or the name of
    /// the [kind](ErrorKind) of an error of this side, such as `disconnected`. It is `dropped` if
    /// the caller has dropped the call, and `None` if the call has succeeded.
    #[must_use]
    pub fn error_code(&self) -> Option<&str> {
        match &self.end {
            End::Replied(_) => None,
            End::Refused(_, error) => Some(code(error)),
            End::Failed(error) => Some(code(error)),
            End::Dropped => Some("dropped"),
        }
    }

    /// Returns the code as one of few texts, whatever the server has sent. It is `ok` if the call has
    /// succeeded, and `remote` for a code that the protocol does not have.
    #[cfg(feature = "metrics")]
    pub(crate) fn label(&self) -> &'static str {
        let error = match &self.end {
            End::Replied(_) => return "ok",
            End::Dropped => return "dropped",
            End::Refused(_, error) => error,
            End::Failed(error) => error,
        };
        if error.code().is_empty() {
            return name_of(error.kind());
        }
        known(error.code()).unwrap_or(name_of(ErrorKind::Remote))
    }

    /// Returns the length of the reply, in bytes. `None` if there is none.
    #[must_use]
    pub fn reply_size(&self) -> Option<usize> {
        match &self.end {
            End::Replied(reply) | End::Refused(reply, _) => Some(reply.body.len()),
            End::Failed(_) | End::Dropped => None,
        }
    }

    /// Returns the endpoint of the last try, or all endpoints if there was no connection. Empty if
    /// the call was dropped.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        match &self.end {
            End::Replied(reply) | End::Refused(reply, _) => &reply.endpoint.name,
            End::Failed(error) => error.endpoint(),
            End::Dropped => "",
        }
    }

    /// Returns the number of tries that have failed before the last one. It is 0 if the call was
    /// dropped.
    #[must_use]
    pub fn retries(&self) -> u32 {
        match &self.end {
            End::Replied(reply) | End::Refused(reply, _) => reply.retries,
            End::Failed(error) => error.retries(),
            End::Dropped => 0,
        }
    }

    /// Returns the time from the first poll of the call to its end.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Returns the span `rpc.client` of the call. It is disabled if no subscriber wants it.
    #[must_use]
    pub fn span(&self) -> &Span {
        self.span
    }
}

/// Returns the code of an error.
fn code(error: &RpcError) -> &str {
    if error.code().is_empty() { name_of(error.kind()) } else { error.code() }
}

/// Returns the name of a kind.
fn name_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidEndpoint => "invalid_endpoint",
        ErrorKind::WrongThread => "wrong_thread",
        ErrorKind::Disconnected => "disconnected",
        ErrorKind::Protocol => "protocol",
        ErrorKind::Remote => "remote",
        kind => code_of(kind),
    }
}

/// The hooks of a client, in the order in which they were added.
#[derive(Clone, Default)]
pub(crate) struct Hooks(Option<Arc<Vec<Arc<dyn ClientHook>>>>);

impl Hooks {
    pub(crate) fn add(&mut self, hook: impl ClientHook) {
        Arc::make_mut(self.0.get_or_insert_default()).push(Arc::new(hook));
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn add_first(&mut self, hook: impl ClientHook) {
        Arc::make_mut(self.0.get_or_insert_default()).insert(0, Arc::new(hook));
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<dyn ClientHook>> {
        self.0.iter().flat_map(|hooks| hooks.iter())
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hooks", self.iter().count())
    }
}

/// A call that has begun, and that somebody watches.
#[derive(Debug)]
pub(super) struct WatchedCall {
    hooks: Hooks,
    span: Span,
    began: Instant,
}

impl WatchedCall {
    /// Begins to watch a call. Returns `None` if nobody wants to.
    #[inline]
    pub(super) fn begin(
        hooks: &Hooks,
        function: &str,
        kind: CallKind,
        extras: &mut Option<Box<Extras>>,
    ) -> Option<Box<Self>> {
        let wants_spans = LevelFilter::current() >= LevelFilter::INFO;
        if hooks.0.is_none() && !wants_spans {
            return None;
        }
        Some(Box::new(Self::begin_watched(hooks, function, kind, extras, wants_spans)))
    }

    fn begin_watched(
        hooks: &Hooks,
        function: &str,
        kind: CallKind,
        extras: &mut Option<Box<Extras>>,
        wants_spans: bool,
    ) -> Self {
        let span = if wants_spans { span::of_call(function) } else { Span::none() };
        for hook in hooks.iter() {
            let mut call = StartingCall { function, kind, extras: &mut *extras, span: &span };
            tell(|| hook.before(&mut call));
        }
        Self { hooks: hooks.clone(), span, began: Instant::now() }
    }

    /// Ends a call with its outcome, or without one if it was dropped.
    pub(super) fn end(&self, function: &str, kind: CallKind, outcome: Option<&Outcome>) {
        let end = match outcome {
            Some(Ok(reply)) => match response::parse_response(&reply.body) {
                Some(Ok(_)) => End::Replied(reply),
                Some(Err(error)) => End::Refused(reply, error),
                // A notification has no response.
                None if kind == CallKind::Notification => End::Replied(reply),
                None => End::Refused(reply, response::malformed()),
            },
            Some(Err(error)) => End::Failed(error),
            None => End::Dropped,
        };
        let took = self.began.elapsed();
        let call = EndedCall { function, kind, end, took, span: &self.span };
        self.record(&call);
        for hook in self.hooks.iter().rev() {
            tell(|| hook.after(&call));
        }
    }

    fn record(&self, call: &EndedCall<'_>) {
        if self.span.is_disabled() {
            return;
        }
        let (address, port) = span::address_and_port(call.endpoint());
        if !address.is_empty() {
            self.span.record("server.address", address);
        }
        if let Some(port) = port {
            self.span.record("server.port", port);
        }
        if call.retries() > 0 {
            self.span.record("rpc.retries", call.retries());
        }
        if let Some(code) = call.error_code() {
            self.span.record("error.type", code);
            self.span.record("otel.status_code", "ERROR");
        }
    }
}

/// Runs a method of a hook.
fn tell(method: impl FnOnce()) {
    if let Err(text) = panics::catch(method) {
        tracing::error!(panic = text, "a hook of the client panicked");
    }
}
