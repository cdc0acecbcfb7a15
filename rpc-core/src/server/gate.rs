//! The check of who may call what, and how much.

use std::time::Instant;

use crate::{peer::PeerId, protocol::error::WireError};

#[cfg(feature = "curve")]
use crate::{
    access::{Access, Rejected},
    error::Ran,
    keys::PublicKey,
    protocol::error::Code,
    server::admission::overloaded,
};

/// The access list of a server, if it has one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate {
    #[cfg(feature = "curve")]
    pub(crate) access: Option<Access>,
}

/// Peers without a key are in the same process: a server with an access list takes no others.
#[cfg(feature = "curve")]
impl Gate {
    /// Checks whether a peer may send a request of `bytes` for a function, and counts the call.
    ///
    /// # Errors
    /// Returns `denied` if the list does not allow it, and `overloaded` if a limit of the key is
    /// exceeded. Neither tells whether there is such a function.
    pub(crate) fn check(
        &self,
        peer: &PeerId,
        function: &str,
        bytes: usize,
        now: Instant,
    ) -> Result<(), WireError> {
        let (Some(access), Some(verified)) = (&self.access, peer.verification()) else {
            return Ok(());
        };
        access.check(verified, function, bytes, now).map_err(|rejected| match rejected {
            Rejected::Denied => {
                let text = "the access list of the server does not allow this key to call it";
                WireError::new(Code::Denied, Ran::No, text)
            }
            Rejected::Exceeded(exceeded) => {
                WireError { retry_after: exceeded.retry_after, ..overloaded(exceeded.reason) }
            }
        })
    }

    /// Returns true if a peer may call a function.
    pub(crate) fn permits(&self, peer: &PeerId, function: &str) -> bool {
        let (Some(access), Some(verified)) = (&self.access, peer.verification()) else {
            return true;
        };
        access.permits(&PublicKey::from_bytes(verified.key), function)
    }
}

/// There is no list.
#[cfg(not(feature = "curve"))]
#[allow(clippy::unused_self, clippy::unnecessary_wraps)]
impl Gate {
    pub(crate) fn check(&self, _: &PeerId, _: &str, _: usize, _: Instant) -> Result<(), WireError> {
        Ok(())
    }

    pub(crate) fn permits(&self, _: &PeerId, _: &str) -> bool {
        true
    }
}
