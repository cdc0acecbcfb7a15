//! The identity of a peer, as a transport states it.

use std::fmt;

use bytes::Bytes;

/// The identity of the peer that sent a message: a client, or the proxy in front of several
/// clients.
///
/// Today it is only an address, which proves nothing: the routing id of ZeroMQ, or the number of an
/// in-memory client. A transport that verifies its peers will add the verified key here.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct PeerId(Bytes);

impl PeerId {
    pub(crate) fn new(address: Bytes) -> Self {
        Self(address)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Copies the id, so that it does not keep alive the buffer in which it was received.
    pub(crate) fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
