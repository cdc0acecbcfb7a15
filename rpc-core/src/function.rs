//! What `#[remote]` knows of a function at compile time, as constants: its signature for both
//! sides, and the entry that a server runs. Generated code fills these in; nothing here does I/O.

use std::{any::TypeId, future::Future, pin::Pin, time::Duration};

use bytes::Bytes;

use crate::{
    codec::{DecodeError, Reader},
    error::{CallFailure, WireError},
    invocation::Invocation,
};

/// A remote function, as its caller sees it. `#[remote]` implements it for the struct that it adds
/// beside the function; generic code can be written against it.
///
/// ```
/// use rpc_core::{remote, Args, Client, RemoteFn};
///
/// #[remote(idempotent)]
/// fn double(n: u32) -> u32 {
///     n * 2
/// }
///
/// async fn twice<F: RemoteFn>(client: &Client, args: Args<F>) -> Result<F::Output, F::Error> {
///     assert!(F::SIGNATURE.idempotent, "`{}` may not be called twice", F::SIGNATURE.name);
///     client.call(args.clone()).await?;
///     client.call(args).await
/// }
///
/// # async fn example(client: &Client) -> Result<(), rpc_core::RpcError> {
/// assert_eq!(twice(client, double::args(4)).await?, 8);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no remote function",
    note = "put `#[remote]` on the function; the type of the same name then stands for it"
)]
pub trait RemoteFn: Sized + Send + Sync + 'static {
    /// What a successful call yields: the function's result, or `T` if that is `Result<T, E>`.
    type Output: Send + 'static;
    /// What a failed call yields: [`RpcError`](crate::RpcError), or
    /// [`CallError<E>`](crate::CallError).
    type Error: CallFailure;
    /// Name, parameters and options.
    const SIGNATURE: &'static Signature;

    /// Decodes a result.
    #[doc(hidden)]
    fn decode_output(reader: &mut Reader<'_>) -> Result<Self::Output, DecodeError>;
}

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

/// What both sides know of a remote function.
#[derive(Debug)]
#[non_exhaustive]
pub struct Signature {
    /// The name on the wire.
    pub name: &'static str,
    /// The doc comment, lines joined by `\n`; empty if there is none.
    pub doc: &'static str,
    /// The parameters that travel, in order.
    pub params: &'static [Param],
    /// The type of the result, as it is written in the source.
    pub output: &'static str,
    /// The path of the function's own error type, if it returns a `Result`.
    pub error: Option<fn() -> &'static str>,
    /// Whether calling it again does no harm.
    pub idempotent: bool,
    /// How often a call may be tried again when its caller does not say.
    pub retries: Option<u32>,
    /// Where it runs.
    pub kind: Kind,
    /// How long a call may take when its caller does not say.
    pub timeout: Option<Duration>,
}

/// A parameter that travels.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Param {
    /// Its name, for calls by name and for messages.
    pub name: &'static str,
    /// Its type, as it is written in the source.
    pub ty: &'static str,
}

/// Where a remote function runs on its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A sync function: on the worker pool, so it may compute or block.
    Pool,
    /// An async function: on the tokio runtime that the server was bound in, so it must not block.
    Async,
    /// A sync function marked `inline`: where the call was decoded. It must return within
    /// microseconds.
    Inline,
}

impl Signature {
    /// A pool function without parameters or result; the `with_` functions say the rest.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(name: &'static str, doc: &'static str, params: &'static [Param]) -> Self {
        Self {
            name,
            doc,
            params,
            output: "()",
            error: None,
            idempotent: false,
            retries: None,
            kind: Kind::Pool,
            timeout: None,
        }
    }

    /// Sets the result's type and, for a `Result`, the function that tells the error's type.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_output(
        mut self,
        output: &'static str,
        error: Option<fn() -> &'static str>,
    ) -> Self {
        self.output = output;
        self.error = error;
        self
    }

    /// Sets where it runs, and whether it is idempotent.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_kind(mut self, kind: Kind, idempotent: bool) -> Self {
        self.kind = kind;
        self.idempotent = idempotent;
        self
    }

    /// Sets how often a call may be tried again.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// Sets the default timeout, in nanoseconds.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_timeout_nanos(mut self, nanos: u64) -> Self {
        self.timeout = Some(Duration::from_nanos(nanos));
        self
    }
}

impl Param {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(name: &'static str, ty: &'static str) -> Self {
        Self { name, ty }
    }
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
    /// For [`Kind::Pool`] and [`Kind::Inline`].
    Sync(fn(&Invocation) -> HandlerResult),
    /// For [`Kind::Async`].
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
