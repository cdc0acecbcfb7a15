//! The clients that have introduced themselves, until their connections end. No I/O.

use foldhash::HashMap;

use crate::{peer::PeerId, protocol::control::Capabilities, transport::ReplyTo};

/// The number of sessions that are kept. Further clients get no batches, and find out that the server
/// drains when their connections end.
const MAX_SESSIONS: usize = 65_536;

/// Clients, by the peer that they come through. Several may stand behind one proxy, and their whole
/// return address tells them apart.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_peer: HashMap<PeerId, HashMap<ReplyTo, Capabilities>>,
    /// The number of clients behind all peers.
    count: usize,
}

impl Sessions {
    /// Opens the session of a client that said hello, or replaces it.
    pub(crate) fn open(&mut self, client: &ReplyTo, capabilities: Capabilities) {
        if self.count < MAX_SESSIONS {
            let clients = self.by_peer.entry(client.peer().detached()).or_default();
            let is_new = clients.insert(client.detached(), capabilities).is_none();
            self.count += usize::from(is_new);
        }
    }

    /// Returns the capabilities of a client: none if it has no session.
    pub(crate) fn capabilities(&self, client: &ReplyTo) -> Capabilities {
        let clients = self.by_peer.get(client.peer());
        clients.and_then(|clients| clients.get(client)).copied().unwrap_or_default()
    }

    pub(crate) fn handle_peer_gone(&mut self, peer: &PeerId) {
        self.count -= self.by_peer.remove(peer).map_or(0, |clients| clients.len());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_peer.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &ReplyTo> {
        self.by_peer.values().flat_map(HashMap::keys)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::Bytes;

    use super::*;

    const BATCHES: Capabilities = Capabilities::BASE.with(Capabilities::BATCHES, true);

    fn peer(name: &'static str) -> PeerId {
        PeerId::new(Bytes::from_static(name.as_bytes()))
    }

    #[test]
    fn sessions_end_with_their_peer() {
        let mut sessions = Sessions::default();
        let all = [["proxy", "a", ""], ["proxy", "b", ""], ["other", "a", ""]]
            .map(|frames| ReplyTo::of(&frames));
        for client in all.iter().chain(&all) {
            sessions.open(client, Capabilities::BASE);
        }
        assert_eq!(sessions.iter().collect::<HashSet<_>>(), all.iter().collect());
        sessions.handle_peer_gone(&peer("proxy"));
        assert_eq!(sessions.iter().collect::<Vec<_>>(), [&all[2]]);
        sessions.handle_peer_gone(&peer("proxy"));
        sessions.handle_peer_gone(&peer("other"));
        assert!(sessions.is_empty());
        assert_eq!(sessions.count, 0);
    }

    #[test]
    fn clients_behind_a_proxy_differ_in_capabilities() {
        let mut sessions = Sessions::default();
        let (a, b) = (ReplyTo::of(&["proxy", "a", ""]), ReplyTo::of(&["proxy", "b", ""]));
        sessions.open(&a, BATCHES);
        sessions.open(&b, Capabilities::BASE);
        assert_eq!(sessions.capabilities(&a), BATCHES);
        assert_eq!(sessions.capabilities(&b), Capabilities::BASE);
        sessions.open(&a, Capabilities::BASE);
        assert_eq!(sessions.capabilities(&a), Capabilities::BASE, "it was replaced");
        assert_eq!(sessions.count, 2);
    }

    #[test]
    fn sessions_are_bounded() {
        let client = |n: usize| ReplyTo::of(&[n.to_string().leak(), ""]);
        let mut sessions = Sessions::default();
        for n in 0..=MAX_SESSIONS {
            sessions.open(&client(n), Capabilities::BASE);
        }
        assert_eq!(sessions.iter().count(), MAX_SESSIONS);
        sessions.handle_peer_gone(client(0).peer());
        sessions.open(&client(MAX_SESSIONS), Capabilities::BASE);
        assert!(sessions.iter().any(|found| *found == client(MAX_SESSIONS)));
    }
}
