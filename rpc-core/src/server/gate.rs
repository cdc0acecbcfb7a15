//! The check of who may call what, and how much.

use std::time::Instant;

use crate::{
    error::Ran,
    peer::PeerId,
    protocol::error::{Code, WireError},
};

#[cfg(feature = "curve")]
use crate::{
    access::{Access, Exceeded},
    keys::PublicKey,
    peer::Verified,
    server::admission::overloaded,
};

/// The access list of a server, if it has one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate {
    #[cfg(feature = "curve")]
    pub(crate) access: Option<Access>,
}

#[cfg(feature = "curve")]
impl Gate {
    /// Returns true if a peer may call a function.
    pub(crate) fn permits(&self, peer: &PeerId, function: &str) -> bool {
        self.of(peer).is_none_or(|(access, verified)| {
            access.permits(&PublicKey::from_bytes(verified.key), function)
        })
    }

    /// Returns false if the key of a peer was removed from the list.
    pub(crate) fn admits(&self, peer: &PeerId) -> bool {
        self.of(peer)
            .is_none_or(|(access, verified)| access.admits(&PublicKey::from_bytes(verified.key)))
    }

    /// Checks whether the limits of a peer's key allow a call of `bytes`, and counts it.
    ///
    /// # Errors
    /// Returns `overloaded`, with a text that names the limit, or `too_large`.
    pub(crate) fn check_limits(
        &self,
        peer: &PeerId,
        bytes: usize,
        now: Instant,
    ) -> Result<(), WireError> {
        let Some((access, verified)) = self.of(peer) else { return Ok(()) };
        access.check_limits(verified, bytes, now).map_err(|exceeded| match exceeded {
            Exceeded::Now { reason, retry_after } => {
                let error = overloaded(reason);
                WireError { retry_after: retry_after.or(error.retry_after), ..error }
            }
            Exceeded::Always { limit } => {
                let message = format!(
                    "the request has {bytes} bytes, and the limit of this key \
                     (max_bytes_in_flight) is {limit}"
                );
                WireError { message, ..WireError::too_large("request", Ran::No, bytes, limit) }
            }
        })
    }

    /// Returns the list, and what is verified of a peer. Peers without a key are in the same
    /// process, and not on a list: a server that has one takes no others.
    fn of<'a>(&'a self, peer: &'a PeerId) -> Option<(&'a Access, &'a Verified)> {
        self.access.as_ref().zip(peer.verification())
    }
}

/// There is no list.
#[cfg(not(feature = "curve"))]
#[allow(clippy::unused_self, clippy::unnecessary_wraps)]
impl Gate {
    pub(crate) fn permits(&self, _: &PeerId, _: &str) -> bool {
        true
    }

    pub(crate) fn admits(&self, _: &PeerId) -> bool {
        true
    }

    pub(crate) fn check_limits(&self, _: &PeerId, _: usize, _: Instant) -> Result<(), WireError> {
        Ok(())
    }
}

/// Makes the error of a call that is not permitted. It does not tell whether there is such a
/// function.
pub(crate) fn denied() -> WireError {
    let text = "the access list of the server does not allow this key to call it";
    WireError::new(Code::Denied, Ran::No, text)
}
