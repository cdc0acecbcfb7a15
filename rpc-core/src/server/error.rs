//! The errors that prevent a server from starting, or that end it.

use std::{error::Error as StdError, fmt};

/// An error that prevents a server from starting, or that ends it.
///
/// `{:#}` appends the cause. So does `Debug`, because `main` prints the `Debug` output of an error
/// that it returns.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The text is not an endpoint that this library understands, or no endpoint was given.
    InvalidEndpoint {
        /// The text of the endpoint, as it was given. Empty if no endpoint was given.
        endpoint: String,
        /// The defect of the text, and the text to write instead.
        reason: String,
    },
    /// The server cannot listen on the endpoint. Another process may use it, the address may not
    /// belong to this machine, or this process may lack the permission.
    Bind {
        /// The endpoint. The port `*` appears as `0`.
        endpoint: String,
        /// The error of the transport.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Two of the functions to serve have the same name on the wire.
    ///
    /// Give one of them another name with `#[remote(name = "...")]`, or choose the functions to
    /// serve with [`ServerBuilder::serve`](crate::ServerBuilder::serve).
    DuplicateFunction {
        /// The name of both functions on the wire.
        name: String,
        /// The source location of one function, as `file:line`.
        first: String,
        /// The source location of the other function, as `file:line`.
        second: String,
    },
    /// Functions to serve have `#[state]` parameters, and the server was not given values of these
    /// types.
    ///
    /// Give them to [`ServerBuilder::state`](crate::ServerBuilder::state). If this server is not
    /// meant to serve the functions, choose those that it serves with
    /// [`ServerBuilder::serve`](crate::ServerBuilder::serve).
    MissingState {
        /// Each type that is missing, with the functions that need it, sorted by name.
        missing: Vec<MissingState>,
    },
    /// There is no function to serve: no `#[remote]` function with a body is linked into this
    /// program.
    ///
    /// The linker leaves out a crate that is a dependency but is never named in the code. Write
    /// `use that_crate as _;` to link it.
    NoFunctions,
    /// The server was bound outside a tokio runtime. Async functions run on the runtime in which
    /// their server was bound.
    NoRuntime,
    /// The server was to be encrypted in a way that would not protect it, or cannot be.
    Curve {
        /// The setting that is wrong or missing.
        reason: &'static str,
    },
    /// The I/O thread or a worker thread could not be started.
    Thread(#[source] std::io::Error),
    /// The I/O thread has panicked. This is a defect of this library: please report it.
    Failed {
        /// The text of the panic.
        panic: String,
    },
}

/// A type of `#[state]` that a server was not given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct MissingState {
    /// The path of the type.
    pub state: &'static str,
    /// True if the server was given an `Arc` of it with
    /// [`ServerBuilder::state`](crate::ServerBuilder::state), which is a type of its own. An `Arc` is
    /// given with [`ServerBuilder::shared_state`](crate::ServerBuilder::shared_state).
    pub arc_given: bool,
    /// The wire names of the functions that need it, sorted.
    pub functions: Vec<&'static str>,
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidEndpoint { endpoint, reason } => {
                write!(f, "cannot bind `{endpoint}`: {reason}")?;
            }
            Self::Bind { endpoint, .. } => write!(f, "cannot listen on {endpoint}")?,
            Self::DuplicateFunction { name, first, second } => write!(
                f,
                "two functions are named `{name}`: {first} and {second}; give one of them another \
                 name with `#[remote(name = \"...\")]`, or serve a subset with \
                 `.serve::<function>()`"
            )?,
            Self::MissingState { missing } => {
                for MissingState { state, arc_given, functions } in missing {
                    write!(f, "state of type `{state}` is missing, which ")?;
                    let verb = if functions.len() == 1 { "needs" } else { "need" };
                    write!(f, "`{}` {verb}", functions.join("`, `"))?;
                    if *arc_given {
                        write!(
                            f,
                            " (an `Arc` of it was given, which is another type: give that with \
                             `.shared_state(...)`)"
                        )?;
                    }
                    f.write_str("; ")?;
                }
                f.write_str(
                    "give it to the builder with `.state(...)`, or, if this server is not meant to \
                     serve the functions, choose what it serves with `.serve::<function>()`",
                )?;
            }
            Self::NoFunctions => f.write_str(
                "no function to serve: no `#[remote]` function is linked into this program (a \
                 crate that is only depended on may not be linked: write `use that_crate as _;`)",
            )?,
            Self::NoRuntime => {
                f.write_str("a server is bound inside a tokio runtime, and there is none here")?;
            }
            Self::Curve { reason } => write!(f, "cannot encrypt the connections: {reason}")?,
            Self::Thread(_) => f.write_str("cannot start a thread")?,
            Self::Failed { panic } => {
                write!(f, "the server has stopped, because its I/O thread has panicked: {panic}")?;
            }
        }
        match self.source() {
            Some(cause) if f.alternate() => write!(f, ": {cause}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#}")
    }
}
