//! CURVE on this engine: the options of both sides, and the connections of a server by their keys.

use std::{collections::HashMap, sync::Arc, task::Context, time::Instant};

use bytes::Bytes;
use omq_tokio::{
    CurveKeypair, CurvePublicKey, CurveSecretKey, CurveServerOptions, Options, PeerInfo,
    PeerPublicKey,
};
use tokio::sync::watch;

use crate::{
    access::Access,
    keys::{PublicKey, SecretKey},
    peer::{PeerId, Verified},
    transport::poll_adapter::PollAdapter,
    util::doublings::Doublings,
};

fn keypair(secret: &SecretKey) -> CurveKeypair {
    CurveKeypair {
        public: CurvePublicKey::from_bytes(*secret.public().as_bytes()),
        secret: CurveSecretKey::from_bytes(*secret.as_bytes()),
    }
}

/// Makes a server's socket admit the keys of `access` only, under names that belong to them.
pub(super) fn server_options(options: Options, secret: &SecretKey, access: &Access) -> Options {
    let (access, refused) = (access.clone(), Doublings::default());
    let admission = CurveServerOptions::new().authenticator(move |peer| {
        let key = PublicKey::from_bytes(peer.public_key);
        let admitted = access.admits(&key);
        let name_is_own = is_own_name(&key, peer.identity.as_ref());
        if !(admitted && name_is_own) {
            let address = peer.peer_address.as_deref().unwrap_or("this machine");
            let reason =
                if admitted { "its routing id is not its own" } else { "it is not on the list" };
            if let Some(refused) = refused.add(1) {
                tracing::warn!(%key, address, reason, refused, "refused a key");
            } else {
                tracing::debug!(%key, address, reason, "refused a key");
            }
        }
        admitted && name_is_own
    });
    options.curve_server_with_options(keypair(secret), admission)
}

/// Returns true if the routing id of a peer is one that only this key can have: one that the engine
/// has chosen for the connection, or one that begins with the key as text. Replies are sent to
/// routing ids. With another rule, a peer that takes the id of one that has left would get its
/// replies.
fn is_own_name(key: &PublicKey, name: Option<&Bytes>) -> bool {
    name.is_none_or(|name| name.is_empty() || name.starts_with(key.to_string().as_bytes()))
}

/// Makes a client's socket accept the server with the key `server` only.
pub(super) fn client_options(options: Options, secret: &SecretKey, server: PublicKey) -> Options {
    options.curve_client(keypair(secret), CurvePublicKey::from_bytes(*server.as_bytes()))
}

/// The connections of a server that has an access list.
pub(super) struct Guard {
    access: Access,
    /// The peers by the numbers of their connections, from the handshake to the end.
    connections: HashMap<u64, PeerId>,
    changes: PollAdapter<watch::Receiver<()>, ()>,
}

impl Guard {
    pub(super) fn new(access: &Access) -> Self {
        Self {
            access: access.clone(),
            connections: HashMap::new(),
            changes: PollAdapter::Idle(access.changes()),
        }
    }

    /// Returns what the engine has verified about the peer of a connection. `None` if it has
    /// verified nothing, which does not happen with CURVE.
    pub(super) fn verified(&self, peer: &PeerInfo) -> Option<Arc<Verified>> {
        let Some(PeerPublicKey::Curve(key)) = peer.authentication.public_key else { return None };
        let connection = peer.connection_id;
        if let Some(known) = self.connections.get(&connection) {
            return known.shared_verification();
        }
        // The connection has just succeeded, or its last messages come after the news of its end.
        let public = PublicKey::from_bytes(key);
        let (name, account) =
            (self.access.name(&public), self.access.account(public, Instant::now()));
        Some(Arc::new(Verified { key, connection, name, account }))
    }

    /// Returns true if the list still has the key of a connection. It may have lost it since the
    /// handshake began.
    pub(super) fn admits(&self, verified: &Verified) -> bool {
        self.access.admits(&PublicKey::from_bytes(verified.key))
    }

    /// Notes a connection that has succeeded.
    pub(super) fn remember(&mut self, connection: u64, peer: PeerId) {
        self.connections.insert(connection, peer);
    }

    /// Forgets a connection that has ended.
    pub(super) fn forget(&mut self, connection: u64) {
        self.connections.remove(&connection);
    }

    /// Returns the peers whose keys have been removed from the list.
    pub(super) fn poll_revoked(&mut self, cx: &mut Context<'_>) -> Vec<PeerId> {
        let mut revoked = Vec::new();
        // The guard holds the list, so that the sender of its changes cannot have been dropped.
        while self.changes.poll(changed, cx).is_ready() {
            let is_revoked =
                |peer: &&PeerId| peer.verification().is_some_and(|it| !self.admits(it));
            revoked = self.connections.values().filter(is_revoked).cloned().collect();
        }
        revoked
    }
}

async fn changed(mut changes: watch::Receiver<()>) -> (watch::Receiver<()>, ()) {
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    (changes, ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_belong_to_keys() {
        let (own, other) = (SecretKey::generate().public(), SecretKey::generate().public());
        let name = |text: String| Some(Bytes::from(text));
        for (name, belongs) in [
            (None, true),
            (name(String::new()), true),
            (name(own.to_string()), true),
            (name(format!("{own}/2")), true),
            (name(other.to_string()), false),
            (name("worker-1".to_owned()), false),
            (name(own.to_string()[..39].to_owned()), false),
            // As the engine makes them for the connections of peers without a name.
            (name("\0\0\0\0\u{1}".to_owned()), false),
        ] {
            assert_eq!(is_own_name(&own, name.as_ref()), belongs, "{name:?}");
        }
    }
}
