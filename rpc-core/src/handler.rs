//! The server's half of a remote function: what is collected at link time, and one call as its
//! handler sees it. Generated code fills these in.

use std::{
    any::{Any, TypeId},
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
};

use bytes::Bytes;
use serde::Serialize;

use crate::{
    codec::{self, EncodeError, Writer},
    context::Context,
    error::Ran,
    function::{RemoteFn, Signature},
    params::Params,
    protocol::{
        MsgId,
        error::{Code, WireError},
        response,
    },
};

/// A remote function that is implemented in this program, and so can be served. A declaration
/// without a body is a [`RemoteFn`] but not this.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be served: it has no body here",
    note = "a body-less `#[remote] fn ...;` only declares a function; serve the one that implements it"
)]
pub trait ServedFn: RemoteFn {
    /// What the server runs.
    #[doc(hidden)]
    const ENTRY: &'static Entry;
}

/// What a server needs to run a function: collected at link time with `inventory`.
#[derive(Debug)]
pub struct Entry {
    pub(crate) signature: &'static Signature,
    pub(crate) handler: Handler,
    pub(crate) states: &'static [StateType],
    pub(crate) file: &'static str,
    pub(crate) line: u32,
}

impl Entry {
    /// `file` and `line` are where the function stands, for messages.
    #[must_use]
    pub const fn new(
        signature: &'static Signature,
        handler: Handler,
        states: &'static [StateType],
        file: &'static str,
        line: u32,
    ) -> Self {
        Self { signature, handler, states, file, line }
    }
}

inventory::collect!(&'static Entry);

/// The response's body, or the error to answer with.
pub type HandlerResult = Result<Bytes, WireError>;
/// What an async handler returns.
pub type HandlerFuture = Pin<Box<dyn Future<Output = HandlerResult> + Send>>;

/// Decodes the params, runs the function, encodes the result.
#[derive(Debug, Clone, Copy)]
pub enum Handler {
    /// For [`Execution::Blocking`](crate::Execution) and [`Execution::Inline`](crate::Execution).
    Sync(fn(&Invocation) -> HandlerResult),
    /// For [`Execution::Async`](crate::Execution).
    Async(fn(Invocation) -> HandlerFuture),
}

/// The type of a `#[state]` parameter.
#[derive(Debug)]
pub struct StateType {
    pub(crate) id: fn() -> TypeId,
    pub(crate) name: fn() -> &'static str,
}

impl StateType {
    /// The type `T`, not the reference to it.
    #[must_use]
    pub const fn of<T: 'static>() -> Self {
        Self { id: TypeId::of::<T>, name: std::any::type_name::<T> }
    }
}

/// The parts of a `Result`, whatever path it is written under.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is named `Result` but is not `std::result::Result`",
    note = "a remote function's `Result` must be the standard one or an alias of it"
)]
pub trait ResultParts {
    /// `T` of `Result<T, E>`.
    type Ok;
    /// `E` of `Result<T, E>`.
    type Err;
    /// Itself, now known to be a `Result`.
    #[allow(clippy::missing_errors_doc)]
    fn into_result(self) -> Result<Self::Ok, Self::Err>;
}

impl<T, E> ResultParts for Result<T, E> {
    type Ok = T;
    type Err = E;
    fn into_result(self) -> Self {
        self
    }
}

/// A value that a server was given: an `Arc<T>` behind a type-erased pointer, ready for
/// `downcast_ref::<Arc<T>>`.
pub(crate) type SharedState = Arc<dyn Any + Send + Sync>;

/// A function that is served, with the states of its parameters in their order.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) entry: &'static Entry,
    pub(crate) states: Box<[SharedState]>,
}

impl Function {
    pub(crate) fn signature(&self) -> &'static Signature {
        self.entry.signature
    }

    pub(crate) fn handler(&self) -> Handler {
        self.entry.handler
    }
}

/// What a handler is given. It owns the request's buffer, so that parameters can borrow from it.
pub struct Invocation {
    pub(crate) function: Arc<Function>,
    pub(crate) body: Bytes,
    pub(crate) params_at: usize,
    /// `None` for a notification, which nobody waits for.
    pub(crate) id: Option<MsgId>,
    pub(crate) context: Context,
}

impl Invocation {
    /// The params, to be read in the order of the signature.
    ///
    /// # Errors
    /// `bad_arguments` when there are too many, or one is named that does not exist.
    pub fn params(&self) -> Result<Params<'_>, WireError> {
        Params::new(&self.body, self.params_at, self.function.signature().params)
    }

    /// The `index`th `#[state]`, which is a `T`.
    ///
    /// # Panics
    /// If it is no `T`: the registry has checked that at bind.
    #[must_use]
    pub fn state<T: Any>(&self, index: usize) -> &Arc<T> {
        self.function.states[index].downcast_ref().expect("bind has put an Arc<T> at this index")
    }

    /// What the function can know of its call.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The response with a result.
    ///
    /// # Errors
    /// When the result cannot be encoded. The function did run.
    pub fn respond(
        &self,
        encode: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> HandlerResult {
        let Some(id) = self.id else {
            return Ok(Bytes::new());
        };
        let mut buffer = Vec::with_capacity(128);
        buffer.extend_from_slice(&response::response_head(id));
        let mut writer = Writer::new(buffer);
        encode(&mut writer).map_err(|error| unencodable("result", &error))?;
        Ok(Bytes::from(writer.into_buffer()))
    }

    /// The response with the function's own error.
    ///
    /// # Errors
    /// Always: that is how a handler says it.
    pub fn fail<E: Serialize + fmt::Display>(&self, error: &E) -> HandlerResult {
        let data = codec::to_vec(error).map_err(|cause| unencodable("error", &cause))?;
        let mut failed = WireError::new(Code::Failed, Ran::Yes, error.to_string());
        failed.data = Some(data);
        Err(failed)
    }
}

fn unencodable(what: &str, error: &EncodeError) -> WireError {
    WireError::new(
        Code::Failed,
        Ran::Yes,
        format!("the function's {what} cannot be encoded: {error}"),
    )
}

impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation")
            .field("context", &self.context)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
