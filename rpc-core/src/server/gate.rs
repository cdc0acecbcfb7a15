//! The check of who may call what.

use crate::{
    error::Ran,
    peer::PeerId,
    protocol::error::{Code, WireError},
};

#[cfg(feature = "curve")]
use crate::{access::Access, keys::PublicKey};

/// The access list of a server, if it has one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate {
    #[cfg(feature = "curve")]
    pub(crate) access: Option<Access>,
}

impl Gate {
    /// Returns true if a peer may call a function. Peers without a key are in the same process:
    /// a server with an access list takes no others.
    #[cfg(feature = "curve")]
    pub(crate) fn permits(&self, peer: &PeerId, function: &str) -> bool {
        let (Some(access), Some(verified)) = (&self.access, peer.verification()) else {
            return true;
        };
        access.permits(&PublicKey::from_bytes(verified.key), function)
    }

    #[cfg(not(feature = "curve"))]
    #[allow(clippy::unused_self)] // There is no list.
    pub(crate) fn permits(&self, _: &PeerId, _: &str) -> bool {
        true
    }

    /// Makes the error of a call that is not permitted. It does not tell whether there is such a
    /// function.
    pub(crate) fn denied() -> WireError {
        let text = "the access list of the server does not allow this key to call it";
        WireError::new(Code::Denied, Ran::No, text)
    }
}
