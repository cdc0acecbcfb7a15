//! Typed calls of Rust functions in other processes.
//!
//! Put [`#[remote]`](remote) on a function and link it into a [`Server`]. Other processes call it
//! through a [`Client`], by the same name and with the same types. ZeroMQ carries the calls, and
//! MessagePack encodes them. The server runs blocking functions on a pool of worker threads, and
//! async functions on tokio. The caller awaits a future with the type of the result, or takes the
//! items of a stream.
//!
//! ```standalone_crate
//! use std::collections::HashMap;
//!
//! use rpc_core::{Client, Server, remote};
//!
//! /// Counts the words of a text.
//! #[remote]
//! pub fn count_words(text: &str) -> HashMap<String, u64> {
//!     let mut counts = HashMap::new();
//!     for word in text.split_whitespace() {
//!         *counts.entry(word.to_owned()).or_default() += 1;
//!     }
//!     counts
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // Port 0 stands for any free port.
//!     let server = Server::bind("tcp://127.0.0.1:0").await?.spawn()?;
//!
//!     let client = Client::connect(server.endpoint()).await?;
//!     let counts = count_words::call(&client, "a b a").await?;
//!     assert_eq!(counts["a"], 2);
//!
//!     server.shutdown().await;
//!     Ok(())
//! }
//! ```
//!
//! # Where to read on
//! - Remote functions: [`#[remote]`](remote) lists the functions that it accepts, and all options.
//! - Calls: [`Client`], [`Call`], [`Map`] and [`Notify`]. Without an async runtime, end each with
//!   `.wait()` instead of `.await`.
//! - Streams: [`Streaming`] is what a function returns, and [`Incoming`] what it takes.
//! - Servers: [`Server`]. A function learns about its call from [`Context`].
//! - Errors: [`RpcError`] and [`CallError`] report a failed call, [`ServeError`] a server that
//!   cannot start.
//!
//! # Deadlines
//! Every call has a timeout: 30 s, unless the call, its function or the client sets another. The
//! call ends by that deadline, with its result or a typed error. A call that is made by a remote
//! function also ends no later than the call that this function runs for. A call with a stream may
//! last as long as items come, unless it or its function sets a timeout: see [`Streaming`].

// Also built for tests, so that a change that breaks a benchmark is seen at once.
#[cfg(any(feature = "bench", test))]
#[doc(hidden)]
#[path = "bench.rs"]
pub mod __bench;
#[cfg(any(feature = "fuzzing", test))]
#[doc(hidden)]
#[path = "fuzz.rs"]
pub mod __fuzz;
#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
#[cfg(feature = "curve")]
mod access;
mod args;
mod arrivals;
mod bounds;
mod client;
mod codec;
mod context;
mod declaration;
mod discover;
mod discovery;
mod endpoint;
mod engine;
mod error;
mod fingerprint;
mod function;
mod handler;
mod inflow;
mod inlet;
#[cfg(feature = "curve")]
mod keys;
mod outflow;
mod outlet;
mod params;
mod peer;
mod protocol;
mod server;
mod transport;
mod usage;
mod util;
mod value;

pub use rpc_macros::remote;

pub use crate::{
    args::Args,
    client::{
        Balancing, Call, Client, ClientBuilder, ClientHook, ClientStatus, Close, CollectOrdered,
        Connect, Connectivity, Dynamic, EndedCall, EndpointStatus, Map, MapItem, Notify,
        SourceStatus, StartingCall, Streaming, UnknownBalancing, WhenFull,
    },
    context::Context,
    discover::{FunctionDescription, ParamDescription, ServiceDescription},
    discovery::{Discovery, DiscoveryError},
    endpoint::texts::Endpoints,
    engine::Engine,
    error::{CallError, CallFailure, ErrorKind, Ran, RpcError},
    function::{Execution, Param, RemoteFn, RemoteStream, Signature},
    handler::ServedFn,
    inlet::Incoming,
    server::{
        CallEnd, MissingState, Refusal, RefusedRequest, Registration, ServeError, ServedCall,
        Server, ServerBuilder, ServerHandle, ServerHook, Withdrawal,
    },
};

#[cfg(feature = "curve")]
pub use crate::{
    access::{Access, AccessError, KeyLimits},
    keys::{KeyError, PublicKey, SecretKey},
};

/// Compiles and runs the examples of README.md.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
