//! Tests of the framework from outside: servers, clients, and calls between them.

// The functions here have exactly the shapes that are under test.
#![allow(clippy::items_after_statements, clippy::needless_pass_by_value, clippy::unused_async)]

mod addresses;
mod blocking;
mod calls;
mod cancellation;
mod connection;
mod deadlines;
mod depth;
mod discovery;
mod errors;
mod functions;
mod hooks;
mod incoming;
mod incoming_ends;
mod keys;
mod limits;
mod logs;
mod map;
mod metadata;
mod overload;
mod proxies;
mod registry;
mod several;
mod shapes;
mod shutdown;
mod slow_peers;
mod stream_peers;
mod streams;
mod workers;
