//! The errors that a caller sees: [`RpcError`] and [`CallError`].

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::{bounds::IsError, codec};

/// Whether the remote function ran, as far as the caller can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ran {
    /// User code never started and never will: calling again is always safe.
    No,
    /// It may have run, fully, partly or not at all: call again only if the function is idempotent.
    Maybe,
    /// It started, and may have stopped part way.
    Yes,
}

/// What kind of failure an [`RpcError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The endpoint's text is not one this library understands. Nothing was sent.
    InvalidEndpoint,
    /// The function panicked. The server lives on, and its log has the panic.
    Panicked,
    /// The function returned an error, and the caller's side declared none. See [`RpcError::data`].
    Failed,
    /// The server could not read the request's frame: the two sides disagree about the protocol. Or
    /// the idempotency key was used for another call.
    BadRequest,
    /// The server has no function of that name. The message offers the nearest ones.
    UnknownFunction,
    /// The arguments could not be encoded, or do not decode to the function's parameters.
    BadArguments,
    /// The request or the reply is larger than a side accepts. A peer that does not say how large
    /// gives zeros.
    TooLarge {
        /// How many bytes the message has.
        size: usize,
        /// How many the side that refused it takes or sends.
        limit: usize,
    },
    /// The time ran out. [`RpcError::ran`] is `No` if it is known that the function never started:
    /// the server may know it, and its answer may come too late.
    DeadlineExceeded,
    /// The call was cancelled.
    Cancelled,
    /// The server, or this client, has as much under way as it accepts. Never started.
    Overloaded,
    /// The server, or this client, is shutting down. Never started, unless [`RpcError::ran`] says
    /// that it did: then the server gave it up when its time for draining had passed.
    ShuttingDown,
    /// This peer may not call this function. Never started.
    Denied,
    /// There is no connection, or it was lost while the call was under way.
    Disconnected,
    /// The reply does not decode to the function's result: the two sides disagree about a type.
    Protocol,
    /// The peer answered with an error that this version does not know, or with plain
    /// MessagePack-RPC's.
    Remote,
}

/// Why a call has no result, apart from the function's own error.
///
/// It is one pointer wide, so that results stay small. Its text names the function and the
/// endpoint; what caused it is its [`source`](StdError::source), which `{:#}` adds to the text.
pub struct RpcError(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    ran: Ran,
    function: Cow<'static, str>,
    endpoint: Arc<str>,
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
            retry_after: None,
            data: None,
            source: None,
        }))
    }

    /// Says which function's call it was about.
    pub(crate) fn of(mut self, function: Cow<'static, str>) -> Self {
        self.0.function = function;
        self
    }

    /// Says at which endpoint it happened.
    pub(crate) fn at(mut self, endpoint: &Arc<str>) -> Self {
        self.0.endpoint = Arc::clone(endpoint);
        self
    }

    /// Adds that an earlier try may have run the function, even if this one has not.
    pub(crate) fn or_earlier_try(mut self) -> Self {
        if self.0.ran == Ran::No {
            self.0.ran = Ran::Maybe;
        }
        self
    }

    pub(crate) fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.0.retry_after = retry_after;
        self
    }

    /// Attaches the function's own error, or the details of the failure, still encoded.
    pub(crate) fn with_data(mut self, data: Bytes) -> Self {
        self.0.data = Some(data);
        self
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the function ran. Where this side cannot know, it says [`Ran::Maybe`].
    #[must_use]
    pub fn ran(&self) -> Ran {
        self.0.ran
    }

    /// The wire name of the function that was called; empty if the error is about the connection
    /// itself.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.0.function
    }

    /// The endpoint that was called (of several tries, the last one's), as it was given to the
    /// client; all of them, joined by commas, if there was no connection to any.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    /// What happened, without function and endpoint (which `Display` adds).
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// How long the server asks to wait before another try, if it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The error's `data`, decoded to `T`: the function's own error where the caller's side
    /// declared none (as [`Client::call_dynamic`](crate::Client::call_dynamic) cannot). `None`
    /// without data, or if it is no `T`.
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

/// Its text with its cause, and what a program would ask it: `main` shows this of an error that it
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

/// Why a call of a function that returns `Result<T, E>` has no `T`.
#[derive(Debug, thiserror::Error)]
pub enum CallError<E> {
    /// The function ran and returned its own error.
    #[error("{0}")]
    Failed(E),
    /// The call itself went wrong.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

impl<E> CallError<E> {
    /// Whether the function ran. See [`RpcError::ran`].
    pub fn ran(&self) -> Ran {
        match self {
            Self::Failed(_) => Ran::Yes,
            Self::Rpc(error) => error.ran(),
        }
    }

    /// The function's own error, if that is what this is.
    pub fn failed(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Rpc(_) => None,
        }
    }

    /// The failure of the call, if that is what this is.
    pub fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Failed(_) => None,
            Self::Rpc(error) => Some(error),
        }
    }
}

/// How a failed call is told to its caller: [`RpcError`] for a plain function, [`CallError<E>`] for
/// one that returns a `Result`. Sealed: the macro chooses.
pub trait CallFailure:
    From<RpcError> + fmt::Debug + fmt::Display + Send + 'static + sealed::Sealed
{
    /// Takes the function's own error out of `error`, where this side declared one.
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
                error.0.message =
                    format!("the function's error is no `{}`", std::any::type_name::<E>());
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
