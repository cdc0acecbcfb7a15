//! Who said hello, and is to be told goodbye: until its connection ends. No I/O.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::transport::Envelope;

/// How many clients can be told goodbye. Further ones find out when the connection ends.
const MAX_GREETED: usize = 65_536;

/// Clients by the peer that they come through: several may stand behind one proxy, and the whole envelope tells
/// them apart.
#[derive(Debug, Default)]
pub(crate) struct Greeted {
    by_peer: HashMap<Bytes, HashSet<Envelope>>,
    /// How many envelopes there are.
    count: usize,
}

impl Greeted {
    pub(crate) fn add(&mut self, envelope: &Envelope) {
        if self.count < MAX_GREETED {
            let peer = Bytes::copy_from_slice(envelope.peer());
            self.count += usize::from(self.by_peer.entry(peer).or_default().insert(envelope.detached()));
        }
    }

    pub(crate) fn peer_gone(&mut self, peer: &Bytes) {
        self.count -= self.by_peer.remove(peer).map_or(0, |gone| gone.len());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_peer.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Envelope> {
        self.by_peer.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_behind_one_proxy_are_all_told_and_go_with_it() {
        let mut greeted = Greeted::default();
        let all =
            [["proxy", "a", ""], ["proxy", "b", ""], ["other", "a", ""]].map(|frames| Envelope::of(&frames));
        for envelope in all.iter().chain(&all) {
            greeted.add(envelope);
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
    fn there_is_a_bound_and_who_leaves_makes_room() {
        let envelope = |n: usize| Envelope::new(Bytes::from(n.to_string()));
        let mut greeted = Greeted::default();
        for n in 0..=MAX_GREETED {
            greeted.add(&envelope(n));
        }
        assert_eq!(greeted.iter().count(), MAX_GREETED);
        greeted.peer_gone(envelope(0).peer());
        greeted.add(&envelope(MAX_GREETED));
        assert!(greeted.iter().any(|found| *found == envelope(MAX_GREETED)));
    }
}
