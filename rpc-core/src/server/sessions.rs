//! The sessions. A session begins when a client sends `rpc.hello`, and ends with the connection of
//! its peer. No I/O.

use foldhash::HashMap;

use crate::{
    peer::PeerId,
    protocol::control::Capabilities,
    server::windows::ClientWindow,
    transport::ReplyTo,
    util::gauged::{Gauged, SERVER_CLIENTS},
};

/// The maximum number of sessions. Further clients are sent no batches and no go-away. They notice
/// that the server drains when their connections end.
const MAX_SESSIONS: usize = 65_536;

/// The clients that have a session, by the peer through which they are connected. Several clients
/// may be behind one proxy. The whole return address identifies a client.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_peer: HashMap<PeerId, HashMap<ReplyTo, Session>>,
    /// The number of sessions of all peers together.
    count: usize,
}

/// The session of one client.
#[derive(Debug)]
struct Session {
    capabilities: Capabilities,
    /// `None` for a client that keeps to no window.
    window: Option<ClientWindow>,
    _counted: Gauged,
}

impl Sessions {
    /// Opens a session for a client that sent `rpc.hello`, or replaces its session. Does nothing,
    /// and returns false, if the maximum number of sessions is reached.
    pub(crate) fn open(&mut self, client: &ReplyTo, capabilities: Capabilities) -> bool {
        if self.count >= MAX_SESSIONS {
            return false;
        }
        let clients = self.by_peer.entry(client.peer().detached()).or_default();
        let counted = Gauged::new(SERVER_CLIENTS);
        let session = Session { capabilities, window: None, _counted: counted };
        let is_new = clients.insert(client.detached(), session).is_none();
        self.count += usize::from(is_new);
        true
    }

    /// Gives a client that has a session its window.
    pub(crate) fn set_window(&mut self, client: &ReplyTo, window: ClientWindow) {
        if let Some(session) =
            self.by_peer.get_mut(client.peer()).and_then(|all| all.get_mut(client))
        {
            session.window = Some(window);
        }
    }

    /// Returns the window of a client. `None` if it keeps to no window.
    pub(crate) fn window(&self, client: &ReplyTo) -> Option<&ClientWindow> {
        self.session(client)?.window.as_ref()
    }

    fn session(&self, client: &ReplyTo) -> Option<&Session> {
        self.by_peer.get(client.peer())?.get(client)
    }

    /// Returns the capabilities of a client. A client without a session has none.
    pub(crate) fn capabilities(&self, client: &ReplyTo) -> Capabilities {
        self.session(client).map(|session| session.capabilities).unwrap_or_default()
    }

    /// Ends the sessions of all clients behind a peer that has disconnected.
    pub(crate) fn handle_peer_gone(&mut self, peer: &PeerId) {
        self.count -= self.by_peer.remove(peer).map_or(0, |clients| clients.len());
    }

    /// Returns true if a client behind this peer has a session.
    pub(crate) fn has_peer(&self, peer: &PeerId) -> bool {
        self.by_peer.contains_key(peer)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_peer.is_empty()
    }

    /// Iterates over the return addresses of all clients that have a session.
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
        PeerId::unverified(Bytes::from_static(name.as_bytes()))
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
    fn proxied_clients_have_own_capabilities() {
        let mut sessions = Sessions::default();
        let (a, b) = (ReplyTo::of(&["proxy", "a", ""]), ReplyTo::of(&["proxy", "b", ""]));
        sessions.open(&a, BATCHES);
        sessions.open(&b, Capabilities::BASE);
        assert_eq!(sessions.capabilities(&a), BATCHES);
        assert_eq!(sessions.capabilities(&b), Capabilities::BASE);
        sessions.open(&a, Capabilities::BASE);
        assert_eq!(sessions.capabilities(&a), Capabilities::BASE, "the session was replaced");
        assert_eq!(sessions.count, 2);
    }

    #[test]
    fn number_of_sessions_is_bounded() {
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
