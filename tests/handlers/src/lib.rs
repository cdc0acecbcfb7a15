//! Remote functions that a server in another crate serves by merely linking this crate.

use rpc_core::remote;

/// Returns the name of the crate that defines it.
#[remote]
#[must_use]
pub fn from_another_crate() -> String {
    env!("CARGO_PKG_NAME").to_owned()
}
