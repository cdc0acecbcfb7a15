//! Encryption between a client and a server of this library.

use rpc_core::{Access, ClientBuilder, SecretKey, ServerBuilder};

/// The secret key of the server, which both sides have here.
fn server_key() -> SecretKey {
    "42".repeat(32).parse().expect("it has 64 digits")
}

pub(crate) fn serve(builder: ServerBuilder) -> ServerBuilder {
    builder.curve(server_key()).access(Access::new().allow_any_key(["*"]))
}

pub(crate) fn call(builder: ClientBuilder) -> ClientBuilder {
    builder.curve([server_key().public()], SecretKey::generate())
}
