//! Call a Rust function in another process, typed.
//!
//! Put [`#[remote]`](remote) on a function, link it into a [`Server`], and call it through a
//! [`Client`] by the same name with the same types. ZeroMQ carries the calls, MessagePack encodes
//! them, a worker pool runs them, and typed futures bring the results back.
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
//!     // Port 0: any that is free.
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
//! - What may be remote, and all options: [`#[remote]`](remote).
//! - Making calls: [`Client`], [`Call`], [`Map`], [`Notify`]. Without an async runtime: `.wait()`
//!   on each.
//! - Serving: [`Server`], and [`Context`] for what a function can know of its call.
//! - What can go wrong: [`RpcError`] and [`CallError`] for callers, [`ServeError`] at start-up.
//!
//! Nothing waits for ever: every call has a deadline, 30 s unless the call, its function or the
//! client says otherwise, and ends with a typed error at the latest then.

// In tests too, so that whoever changes a stage sees at once what measures it.
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
mod args;
mod bounds;
mod client;
mod codec;
mod context;
mod discover;
mod endpoint;
mod engine;
mod error;
mod function;
mod handler;
mod params;
mod peer;
mod protocol;
mod server;
mod transport;
mod util;
mod value;

pub use rpc_macros::remote;

pub use crate::{
    args::Args,
    client::{
        Call, Client, ClientBuilder, ClientStatus, Close, Connect, Connectivity, Dynamic,
        EndpointStatus, Map, MapItem, Notify, WhenFull,
    },
    context::Context,
    discover::{FunctionDescription, ParamDescription, ServiceDescription},
    endpoint::Endpoints,
    engine::Engine,
    error::{CallError, CallFailure, ErrorKind, Ran, RpcError},
    function::{Execution, Param, RemoteFn, Signature},
    handler::ServedFn,
    server::{ServeError, Server, ServerBuilder, ServerHandle},
};

/// Compiles and runs what README.md shows.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
