//! Remote functions that a server in another crate serves, only by linking this one.

use rpc_core::remote;

/// Says where it is defined.
#[remote]
#[must_use]
pub fn from_another_crate() -> String {
    env!("CARGO_PKG_NAME").to_owned()
}
