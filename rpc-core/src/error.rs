//! The errors that a caller sees: [`RpcError`] and [`CallError`].

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::{bounds::IsError, codec};

/// The caller's knowledge about whether the remote function ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ran {
    /// The function never started and never will. It is always safe to call it again.
    No,
    /// The function may have run fully, partly or not at all. Call it again only if it is
    /// idempotent.
    Maybe,
    /// The function started. It may have stopped part way.
    Yes,
}

/// The kind of failure that an [`RpcError`] reports.
///
/// Some kinds below say that the function never started. This holds for the last try of the call.
/// If an earlier try may have run the function, [`RpcError::ran`] is [`Ran::Maybe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An endpoint's text is not one that this library understands, or no endpoint was given.
    /// Nothing was sent.
    InvalidEndpoint,
    /// The function panicked. The server keeps running, and its log contains the panic.
    Panicked,
    /// The function returned an error, and the caller's side declares no error type for it.
    /// [`RpcError::data`] decodes that error. The kind also stands for a result that the server
    /// could not encode.
    Failed,
    /// The server could not read the request, because the two sides disagree about the protocol.
    /// The kind also stands for an idempotency key that was used for another call before.
    BadRequest,
    /// The server has no function of that name. The message lists the most similar names.
    UnknownFunction,
    /// The arguments could not be encoded, or do not decode to the function's parameters. The kind
    /// also stands for an idempotency key that is empty or longer than 64 bytes.
    BadArguments,
    /// The request or the reply is larger than one of the two sides accepts. Both fields are zero
    /// if the peer does not state them.
    TooLarge {
        /// The length of the message, in bytes.
        size: usize,
        /// The longest message that the side that refused it accepts or sends, in bytes.
        limit: usize,
    },
    /// The time of the call ran out. [`RpcError::ran`] is `No` only if the caller's side knows that
    /// the function never started. The server may know it too, but its answer may come too late.
    DeadlineExceeded,
    /// The server cancelled the call, because its caller asked for that or has disconnected.
    Cancelled,
    /// The server or this client has as many calls, or bytes of them, in flight as it accepts. The
    /// function never started.
    Overloaded,
    /// The server or this client is shutting down. The function never started, unless
    /// [`RpcError::ran`] says that it did. In that case it was still running when the server's
    /// drain timeout had passed.
    ShuttingDown,
    /// This peer may not call this function, which may exist or not. The function never started.
    Denied,
    /// The thread that called `.wait()` is an I/O thread of this library, and would have waited for
    /// itself. Nothing was sent.
    WrongThread,
    /// There is no connection, or the connection was lost while the call was in flight.
    Disconnected,
    /// The reply does not decode to the function's result or error. The two sides disagree about a
    /// type, or about the protocol.
    Protocol,
    /// The peer answered with an error code that this version does not know, such as one of a
    /// [hook](crate::ServerHook) of the server, or with an error of plain MessagePack-RPC. See
    /// [`RpcError::code`].
    Remote,
}

/// The reason why a call has no result, apart from the function's own error.
///
/// The `Display` text has the form ``call of `function` at endpoint: message``, without the parts
/// that are not known. `{:#}` appends the cause, which is the [`source`](StdError::source) of the
/// error. `Debug` appends the kind and [`Ran`] as well.
///
/// The error is one pointer wide, so that results stay small.
pub struct RpcError(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    ran: Ran,
    function: Cow<'static, str>,
    endpoint: Arc<str>,
    code: String,
    retries: u32,
    retry_after: Option<Duration>,
    data: Option<Bytes>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl RpcError {
    pub(crate) fn new(kind: ErrorKind, ran: Ran, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            ran,
            function: Cow::Borrowed(""),
            endpoint: Arc::from(""),
            code: String::new(),
            retries: 0,
            retry_after: None,
            data: None,
            source: None,
        }))
    }

    /// Sets the function whose call has failed.
    pub(crate) fn of(mut self, function: Cow<'static, str>) -> Self {
        self.0.function = function;
        self
    }

    /// Sets the endpoint at which the call has failed.
    pub(crate) fn at(mut self, endpoint: &Arc<str>) -> Self {
        self.0.endpoint = Arc::clone(endpoint);
        self
    }

    /// Records that an earlier try may have run the function, even if the last one has not.
    pub(crate) fn or_earlier_try(mut self) -> Self {
        if self.0.ran == Ran::No {
            self.0.ran = Ran::Maybe;
        }
        self
    }

    /// Returns the message and the cause, without function and endpoint.
    pub(crate) fn reason(&self) -> String {
        match &self.0.source {
            Some(cause) => format!("{}: {cause}", self.0.message),
            None => self.0.message.clone(),
        }
    }

    /// Adds another statement to the message.
    pub(crate) fn and(mut self, statement: impl fmt::Display) -> Self {
        self.0.message = format!("{}; {statement}", self.0.message);
        self
    }

    /// States that the function has run.
    pub(crate) fn has_run(mut self) -> Self {
        self.0.ran = Ran::Yes;
        self
    }

    pub(crate) fn after_retries(mut self, retries: u32) -> Self {
        self.0.retries = retries;
        self
    }

    pub(crate) fn with_code(mut self, code: String) -> Self {
        self.0.code = code;
        self
    }

    pub(crate) fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.0.retry_after = retry_after;
        self
    }

    /// Attaches the function's own error, or the details of the failure, in encoded form.
    pub(crate) fn with_data(mut self, data: Option<Bytes>) -> Self {
        self.0.data = data;
        self
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns the kind of the failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the code of the error, as the server has sent it. Empty if the error was made on this
    /// side.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// Returns whether the function ran, in any try of the call. It is [`Ran::Maybe`] if the
    /// caller's side cannot know.
    #[must_use]
    pub fn ran(&self) -> Ran {
        self.0.ran
    }

    /// Returns the wire name of the function that was called. The name is empty if the error is
    /// about the connection itself.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.0.function
    }

    /// Returns the endpoint that was called, in the form in which it was given to the client.
    ///
    /// After several tries it is the endpoint of the last one. If there was no connection to any
    /// endpoint, it is all of them, joined by commas.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    /// Returns the description of the failure, without function and endpoint, which `Display` adds.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the number of tries of the call before the last one.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.0.retries
    }

    /// Returns the time that the server asks the caller to wait before another try. `None` if the
    /// server states none.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Decodes the data of the error to `T`. Returns `None` if there is no data, or if the data
    /// does not decode to `T`.
    ///
    /// For the kind [`Failed`](ErrorKind::Failed) the data is the function's own error. Use it
    /// where the caller's side declares no error type, as in
    /// [`Client::call_dynamic`](crate::Client::call_dynamic), which cannot. If the error has neither
    /// a known code nor a `data` field, as in plain MessagePack-RPC, the data is the whole error
    /// value.
    #[must_use]
    pub fn data<T: DeserializeOwned>(&self) -> Option<T> {
        codec::from_slice(self.0.data.as_ref()?).ok()
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { function, endpoint, message, .. } = &*self.0;
        match (function.is_empty(), endpoint.is_empty()) {
            (false, false) => write!(f, "call of `{function}` at {endpoint}: {message}")?,
            (false, true) => write!(f, "call of `{function}`: {message}")?,
            (true, false) => write!(f, "{endpoint}: {message}")?,
            (true, true) => f.write_str(message)?,
        }
        match &self.0.source {
            Some(cause) if f.alternate() => write!(f, ": {cause}"),
            _ => Ok(()),
        }
    }
}

/// Shows the text, the cause, the kind and [`Ran`]: this is the output for an error that `main`
/// returns.
impl fmt::Debug for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#} ({:?}, ran: {:?})", self.0.kind, self.0.ran)
    }
}

impl StdError for RpcError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// The reason why a call of a function that returns `Result<T, E>` has no `T`.
///
/// `{:#}` appends the cause, as far as the function's own error does that too.
#[derive(thiserror::Error)]
pub enum CallError<E> {
    /// The function ran and returned its own error.
    Failed(E),
    /// The call itself failed.
    Rpc(#[from] RpcError),
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Rpc(error) => error.fmt(f),
        }
    }
}

/// Shows the text and the cause of a call that failed: this is the output for an error that `main`
/// returns.
impl<E: fmt::Debug> fmt::Debug for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::Rpc(error) => error.fmt(f),
        }
    }
}

impl<E> CallError<E> {
    /// Returns whether the function ran: always [`Ran::Yes`] for [`Failed`](Self::Failed),
    /// otherwise see [`RpcError::ran`].
    pub fn ran(&self) -> Ran {
        match self {
            Self::Failed(_) => Ran::Yes,
            Self::Rpc(error) => error.ran(),
        }
    }

    /// Returns the function's own error. `None` if the call itself failed.
    pub fn failed(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Rpc(_) => None,
        }
    }

    /// Returns the failure of the call. `None` if the function returned its own error.
    pub fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Failed(_) => None,
            Self::Rpc(error) => Some(error),
        }
    }
}

/// The error type of a call: [`CallError<E>`] for a function that returns `Result<T, E>`, and
/// [`RpcError`] for any other. The trait is sealed, because `#[remote]` chooses the type.
pub trait CallFailure:
    From<RpcError> + fmt::Debug + fmt::Display + Send + 'static + sealed::Sealed
{
    /// Converts the error of a reply. Decodes the function's own error if the caller's side
    /// declares its type.
    #[doc(hidden)]
    fn from_reply(error: RpcError) -> Self;
}

impl CallFailure for RpcError {
    fn from_reply(error: RpcError) -> Self {
        error
    }
}

impl<E: IsError> CallFailure for CallError<E> {
    fn from_reply(mut error: RpcError) -> Self {
        if error.kind() != ErrorKind::Failed {
            return Self::Rpc(error);
        }
        let decoded = error.0.data.as_ref().map(|data| codec::from_slice(data));
        match decoded {
            Some(Ok(failed)) => Self::Failed(failed),
            Some(Err(cause)) => {
                error.0.kind = ErrorKind::Protocol;
                let (ty, place) = (std::any::type_name::<E>(), cause.place());
                error.0.message = format!("the function's error does not decode as `{ty}`{place}");
                Self::Rpc(error.with_source(cause))
            }
            None => Self::Rpc(error),
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::RpcError {}
    impl<E> Sealed for super::CallError<E> {}
}
