//! The framework from outside: servers, clients, and the functions between them.

mod blocking;
mod calls;
mod cancellation;
mod connection;
mod deadlines;
mod errors;
mod functions;
mod map;
mod overload;
mod registry;
mod shapes;
mod shutdown;
