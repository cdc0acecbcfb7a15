//! Who said hello, and is to be told goodbye: until its connection ends. No I/O.

use bytes::Bytes;
use foldhash::HashMap;
use serde::Deserialize;

use crate::transport::Envelope;

/// How many clients can be told goodbye. Further ones find out when the connection ends.
const MAX_GREETED: usize = 65_536;

/// What a client has said of itself in its hello.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Client {
    /// It takes several messages in one.
    #[serde(default)]
    pub(crate) batches: bool,
}

/// Clients by the peer that they come through: several may stand behind one proxy, and the whole
/// envelope tells them apart.
#[derive(Debug, Default)]
pub(crate) struct Greeted {
    by_peer: HashMap<Bytes, HashMap<Envelope, Client>>,
    /// How many envelopes there are.
    count: usize,
}

impl Greeted {
    pub(crate) fn add(&mut self, envelope: &Envelope, client: Client) {
        if self.count < MAX_GREETED {
            let peer = Bytes::copy_from_slice(envelope.peer());
            let news =
                self.by_peer.entry(peer).or_default().insert(envelope.detached(), client).is_none();
            self.count += usize::from(news);
        }
    }

    /// Whether a client takes several messages in one.
    pub(crate) fn takes_batches(&self, envelope: &Envelope) -> bool {
        let client = self.by_peer.get(envelope.peer()).and_then(|clients| clients.get(envelope));
        client.is_some_and(|client| client.batches)
    }

    pub(crate) fn peer_gone(&mut self, peer: &Bytes) {
        self.count -= self.by_peer.remove(peer).map_or(0, |gone| gone.len());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_peer.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Envelope> {
        self.by_peer.values().flat_map(HashMap::keys)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn clients_behind_one_proxy_are_all_told_and_go_with_it() {
        let mut greeted = Greeted::default();
        let all = [["proxy", "a", ""], ["proxy", "b", ""], ["other", "a", ""]]
            .map(|frames| Envelope::of(&frames));
        for envelope in all.iter().chain(&all) {
            greeted.add(envelope, Client::default());
        }
        assert_eq!(greeted.iter().collect::<HashSet<_>>(), all.iter().collect());
        greeted.peer_gone(&Bytes::from_static(b"proxy"));
        assert_eq!(greeted.iter().collect::<Vec<_>>(), [&all[2]]);
        greeted.peer_gone(&Bytes::from_static(b"proxy"));
        greeted.peer_gone(&Bytes::from_static(b"other"));
        assert!(greeted.is_empty());
        assert_eq!(greeted.count, 0);
    }

    #[test]
    fn of_clients_behind_one_proxy_each_says_for_itself_whether_it_takes_batches() {
        let mut greeted = Greeted::default();
        let (a, b) = (Envelope::of(&["proxy", "a", ""]), Envelope::of(&["proxy", "b", ""]));
        greeted.add(&a, Client { batches: true });
        greeted.add(&b, Client { batches: false });
        assert!(greeted.takes_batches(&a) && !greeted.takes_batches(&b));
        greeted.add(&a, Client { batches: false });
        assert!(!greeted.takes_batches(&a), "it has been replaced");
        assert_eq!(greeted.count, 2);
    }

    #[test]
    fn there_is_a_bound_and_who_leaves_makes_room() {
        let envelope = |n: usize| Envelope::new(Bytes::from(n.to_string()));
        let mut greeted = Greeted::default();
        for n in 0..=MAX_GREETED {
            greeted.add(&envelope(n), Client::default());
        }
        assert_eq!(greeted.iter().count(), MAX_GREETED);
        greeted.peer_gone(envelope(0).peer());
        greeted.add(&envelope(MAX_GREETED), Client::default());
        assert!(greeted.iter().any(|found| *found == envelope(MAX_GREETED)));
    }
}
