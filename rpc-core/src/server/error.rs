//! The errors that prevent a server from starting.

use std::{error::Error as StdError, fmt};

/// An error that prevents a server from starting.
///
/// Its `Debug` output is the text of the error and of its cause, because `main` prints the `Debug`
/// output of an error that it returns.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The text is not an endpoint that this library understands, or no endpoint was given.
    #[error("cannot bind `{endpoint}`: {reason}")]
    InvalidEndpoint {
        /// The text of the endpoint, as it was given. Empty if no endpoint was given.
        endpoint: String,
        /// The defect of the text, and the text to write instead.
        reason: String,
    },
    /// The server cannot listen on the endpoint. Another process may use it, the address may not
    /// belong to this machine, or this process may lack the permission.
    #[error("cannot listen on {endpoint}")]
    Bind {
        /// The endpoint. The host `*` appears as `0.0.0.0`, and the port `*` as `0`.
        endpoint: String,
        /// The error of the transport.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Two of the functions to serve have the same name on the wire.
    ///
    /// Give one of them another name with `#[remote(name = "...")]`, or choose the functions to
    /// serve with [`ServerBuilder::serve`](crate::ServerBuilder::serve).
    #[error(
        "two functions are named `{name}`: {first} and {second}; give one of them another name with \
         `#[remote(name = \"...\")]`, or serve a subset with `.serve::<function>()`"
    )]
    DuplicateFunction {
        /// The name of both functions on the wire.
        name: String,
        /// The source location of one function, as `file:line`.
        first: String,
        /// The source location of the other function, as `file:line`.
        second: String,
    },
    /// A function to serve has a `#[state]` parameter, and the server was not given a value of that
    /// type.
    ///
    /// Give it to [`ServerBuilder::state`](crate::ServerBuilder::state). If this server is not
    /// meant to serve the function, choose the functions to serve with
    /// [`ServerBuilder::serve`](crate::ServerBuilder::serve).
    #[error(
        "function `{function}` needs state of type `{state}`: give it to the builder with `.state(...)`, or, \
         if this server is not meant to serve it, choose what it serves with `.serve::<function>()`"
    )]
    MissingState {
        /// The name of the function on the wire.
        function: String,
        /// The path of the type.
        state: &'static str,
    },
    /// There is no function to serve: no `#[remote]` function with a body is linked into this
    /// program.
    ///
    /// The linker leaves out a crate that is a dependency but is never named in the code. Write
    /// `use that_crate as _;` to link it.
    #[error(
        "no function to serve: no `#[remote]` function is linked into this program \
         (a crate that is only depended on may not be linked: write `use that_crate as _;`)"
    )]
    NoFunctions,
    /// The server was bound outside a tokio runtime. Async functions run on the runtime in which
    /// their server was bound.
    #[error("a server is bound inside a tokio runtime, and there is none here")]
    NoRuntime,
    /// The I/O thread or a worker thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

impl fmt::Debug for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source() {
            Some(cause) => write!(f, "{self}: {cause}"),
            None => write!(f, "{self}"),
        }
    }
}
