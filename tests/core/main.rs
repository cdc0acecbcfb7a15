//! The framework from outside: servers, clients, and the functions between them.

// The functions here have the shapes that are to be tested.
#![allow(clippy::items_after_statements, clippy::needless_pass_by_value, clippy::unused_async)]

mod blocking;
mod calls;
mod cancellation;
mod connection;
mod deadlines;
mod errors;
mod functions;
mod keys;
mod map;
mod overload;
mod registry;
mod several;
mod shapes;
mod shutdown;
mod slow_peers;
