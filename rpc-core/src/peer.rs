//! The identity of a peer, as a transport states it.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use bytes::Bytes;

use crate::usage::Account;

/// The identity of the peer that sent a message: a client, or the proxy in front of several
/// clients.
///
/// The address proves nothing: it is the routing id of ZeroMQ, or the number of an in-memory
/// client. The key does, if there is one. Peers with the same address and different keys are
/// different peers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct PeerId {
    address: Bytes,
    /// Nothing is verified without the feature, and every call is smaller for it.
    #[cfg(feature = "curve")]
    verified: Option<Arc<Verified>>,
}

/// What a transport has verified about a peer.
#[derive(Debug)]
#[cfg_attr(not(feature = "curve"), allow(dead_code))] // Then nothing is verified.
pub(crate) struct Verified {
    /// The public key whose secret the peer has.
    pub(crate) key: [u8; 32],
    /// The number of the connection, in its transport.
    pub(crate) connection: u64,
    /// The name of the key, when the peer connected.
    pub(crate) name: Option<Arc<str>>,
    /// The account of the key, which all its connections share.
    pub(crate) account: Arc<Account>,
}

/// The connections of a transport have different numbers. Keys are compared as well, because more
/// than one transport may verify them.
impl Ord for Verified {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.connection, &self.key).cmp(&(other.connection, &other.key))
    }
}

impl PartialOrd for Verified {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Verified {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Verified {}

impl PeerId {
    /// Makes the identity of a peer, about which the transport has `verified` something.
    #[cfg_attr(not(feature = "curve"), allow(clippy::needless_pass_by_value))]
    pub(crate) fn new(address: Bytes, verified: Option<Arc<Verified>>) -> Self {
        #[cfg(not(feature = "curve"))]
        let _ = verified;
        Self {
            address,
            #[cfg(feature = "curve")]
            verified,
        }
    }

    /// Makes the identity of a peer that has proved nothing.
    pub(crate) fn unverified(address: Bytes) -> Self {
        Self::new(address, None)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.address
    }

    /// Returns what the transport has verified, if that is anything.
    #[cfg(feature = "curve")]
    pub(crate) fn verification(&self) -> Option<&Verified> {
        self.verified.as_deref()
    }

    /// Returns the same, to be shared by the next messages of the peer.
    #[cfg(feature = "curve")]
    pub(crate) fn shared_verification(&self) -> Option<Arc<Verified>> {
        self.verified.clone()
    }

    #[cfg(not(feature = "curve"))]
    #[allow(clippy::unused_self)] // There is nothing in it.
    pub(crate) fn verification(&self) -> Option<&Verified> {
        None
    }

    /// Copies the id, so that it does not keep alive the buffer in which it was received.
    pub(crate) fn detached(&self) -> Self {
        let mut copy = self.clone();
        copy.address = Bytes::copy_from_slice(&self.address);
        copy
    }

    /// Returns the name of the party with which the capacity of a server is shared: the verified
    /// key, with all its connections, or else the address. A server that verifies keys has no
    /// other peers but in-memory ones, whose addresses are shorter than a key.
    #[inline]
    pub(crate) fn holder(&self) -> &Bytes {
        self.verification().map_or(&self.address, |verified| verified.account.key())
    }
}

/// Peers with the same address are nearly always the same peer, so that its hash is enough.
impl Hash for PeerId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address.hash(state);
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}
