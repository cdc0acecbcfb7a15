//! The signature of a remote function, as both sides know it at compile time. Generated code fills it
//! in.

use std::{fmt, time::Duration};

use crate::{
    codec::{DecodeError, Reader},
    error::CallFailure,
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
    pub execution: Execution,
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

/// The way in which a server runs a remote function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Execution {
    /// A sync function, on a worker thread: it may compute or block.
    Blocking,
    /// An async function, on the tokio runtime that the server was bound in: it must not block.
    Async,
    /// A sync function marked `inline`, on the I/O thread: it must return within microseconds.
    Inline,
}

/// The text that `rpc.discover` states: `pool`, `async` or `inline`.
impl fmt::Display for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocking => "pool",
            Self::Async => "async",
            Self::Inline => "inline",
        })
    }
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
            execution: Execution::Blocking,
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
    pub const fn with_execution(mut self, execution: Execution, idempotent: bool) -> Self {
        self.execution = execution;
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
