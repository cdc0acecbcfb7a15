//! The errors that keep a server from starting.

use std::{error::Error as StdError, fmt};

/// The reason why a server could not start.
///
/// Its `Debug` is its text with its cause, because that is what `main` shows of an error that it
/// returns.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The endpoint's text is not one this library understands.
    #[error("cannot bind `{endpoint}`: {reason}")]
    InvalidEndpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong with it, and what to write instead.
        reason: String,
    },
    /// The endpoint could not be listened on: it is taken, or not this machine's, or not permitted.
    #[error("cannot listen on {endpoint}")]
    Bind {
        /// As it was given.
        endpoint: String,
        /// What the transport said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Two served functions have one wire name. Give one another name with `#[remote(name =
    /// "...")]`, or serve a subset.
    #[error(
        "two functions are named `{name}`: {first} and {second}; give one of them another name with \
         `#[remote(name = \"...\")]`, or serve a subset with `.serve::<function>()`"
    )]
    DuplicateFunction {
        /// The name on the wire.
        name: String,
        /// Where one is defined (`file:line`).
        first: String,
        /// Where the other is defined.
        second: String,
    },
    /// A served function has a `#[state]` parameter that the server was not given.
    #[error(
        "function `{function}` needs state of type `{state}`: give it to the builder with `.state(...)`, or, \
         if this server is not meant to serve it, choose what it serves with `.serve::<function>()`"
    )]
    MissingState {
        /// The name on the wire.
        function: String,
        /// The type's path.
        state: &'static str,
    },
    /// There is nothing to serve: no function is registered in this program, or none was chosen.
    #[error(
        "no function to serve: no `#[remote]` function is linked into this program \
         (a crate that is only depended on may not be linked: write `use that_crate as _;`)"
    )]
    NoFunctions,
    /// `bind` was called outside a tokio runtime, which async functions need.
    #[error("a server is bound inside a tokio runtime, and there is none here")]
    NoRuntime,
    /// A thread could not be started.
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
