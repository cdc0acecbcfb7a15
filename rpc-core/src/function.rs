//! The signature of a remote function, which each side knows at compile time. Generated code
//! contains it.

use std::{fmt, time::Duration};

use crate::{
    codec::{DecodeError, Reader},
    error::CallFailure,
};

/// A remote function, as its caller sees it.
///
/// `#[remote]` implements the trait for the struct of the same name that it adds beside the
/// function. Generic code uses the trait to call any remote function:
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
    /// The value of a successful call: `T` if the function returns `Result<T, E>`, otherwise the
    /// whole result.
    type Output: Send + 'static;
    /// The error of a failed call: [`CallError<E>`](crate::CallError) if the function returns
    /// `Result<T, E>`, otherwise [`RpcError`](crate::RpcError).
    type Error: CallFailure;
    /// The name, parameters and options of the function.
    const SIGNATURE: &'static Signature;

    /// Decodes the result of a successful call.
    #[doc(hidden)]
    fn decode_output(reader: &mut Reader<'_>) -> Result<Self::Output, DecodeError>;
}

/// A remote function that returns many items, one by one: an iterator, or a stream.
///
/// `#[remote]` implements the trait. For generic code that asks for no stream, such a function is a
/// [`RemoteFn`] whose output is a `Vec` of all items.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no remote function that returns a stream",
    note = "such a function returns `impl Iterator<Item = T> + Send`, or is async and returns \
            `impl Stream<Item = T> + Send`"
)]
pub trait RemoteStream: RemoteFn {
    /// The type of an item.
    type Item: Send + 'static;

    /// Decodes an item.
    #[doc(hidden)]
    fn decode_item(reader: &mut Reader<'_>) -> Result<Self::Item, DecodeError>;
}

/// The name, parameters and options of a remote function.
///
/// A server has the signature of the implementation. A caller that has only a declaration without a
/// body has the signature of the declaration.
#[derive(Debug)]
#[non_exhaustive]
pub struct Signature {
    /// The name on the wire.
    pub name: &'static str,
    /// The doc comment, its lines joined by `\n`. Empty if there is none.
    pub doc: &'static str,
    /// The parameters that callers pass, in order. Parameters that the server provides (`#[state]`,
    /// `#[context]`) are not among them.
    pub params: &'static [Param],
    /// The type of the result, as it is written in the source.
    pub output: &'static str,
    /// A function that returns the path of the error type `E`. `None` if the result is not a
    /// `Result<T, E>`.
    pub error: Option<fn() -> &'static str>,
    /// True if a repeated call does no harm.
    pub idempotent: bool,
    /// The number of times that a call may be retried if the call itself sets none. `None` means
    /// the setting of the client.
    pub retries: Option<u32>,
    /// The way in which a server runs the function.
    pub execution: Execution,
    /// The time that a call may take if the call itself sets none. `None` means the timeout of the
    /// client.
    pub timeout: Option<Duration>,
}

/// A parameter that callers pass.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Param {
    /// The name of the parameter, for calls by name and for error messages.
    pub name: &'static str,
    /// The type of the parameter, as it is written in the source.
    pub ty: &'static str,
}

/// The way in which a server runs a remote function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Execution {
    /// A sync function runs on a worker thread. It may compute or block.
    Blocking,
    /// An async function runs on the tokio runtime in which the server was bound. It must not
    /// block.
    Async,
    /// A sync function that is marked `inline` runs on the I/O thread. It must return within
    /// microseconds.
    Inline,
}

/// Writes the text that `rpc.discover` states: `pool`, `async` or `inline`.
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
    /// The signature of a function that is known by name only.
    pub(crate) const UNKNOWN: &'static Self = &Self::new("", "", &[]);

    /// Makes the signature of a blocking function that returns `()`. The `with_` functions change
    /// that.
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

    /// Sets the type of the result and, for a `Result`, the function that returns the path of the
    /// error type.
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

    /// Sets the way in which a server runs the function, and the idempotent flag.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_execution(mut self, execution: Execution, idempotent: bool) -> Self {
        self.execution = execution;
        self.idempotent = idempotent;
        self
    }

    /// Returns the signature of a function that implements this declaration.
    #[doc(hidden)]
    #[must_use]
    pub const fn implemented(&self, execution: Execution) -> Self {
        Self { execution, ..*self }
    }

    /// Sets the default number of retries.
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
