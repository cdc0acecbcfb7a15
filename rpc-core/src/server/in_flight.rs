//! What a listener has accepted and not finished: whose it is, until when, and how to stop it. No
//! I/O, no clock.

use std::{collections::BTreeSet, time::Instant};

use bytes::Bytes;
use foldhash::HashMap;

use crate::{
    context::Context,
    id_table::IdTable,
    message::MsgId,
    server::{
        admission::{Held, Permit},
        reply_memory::Key,
        run::{Running, Ticket},
    },
    transport::Envelope,
};

/// A request, or a notification, whose function has not ended.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Where the response goes. `None` for a notification, and once the response was sent.
    pub(crate) caller: Option<Caller>,
    pub(crate) peer: Bytes,
    pub(crate) context: Context,
    /// What it counts as.
    pub(crate) held: Held,
    /// `None` until it was handed to where it runs.
    pub(crate) running: Option<Running>,
    /// Of a call with an idempotency key.
    pub(crate) keyed: Option<Keyed>,
    /// It was answered, or given up, and stays only until its sync function returns.
    pub(crate) over: bool,
}

/// What an entry has to do with a call that has a key.
#[derive(Debug)]
pub(crate) enum Keyed {
    /// It runs the function, for nobody in particular.
    Runs(Key),
    /// It waits for the outcome.
    Waits {
        key: Key,
        /// `None` for the first one, whose request is what runs.
        _permit: Option<Permit>,
    },
}

/// Who waits for a response.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) envelope: Envelope,
    pub(crate) id: MsgId,
}

/// Everything that a listener has in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// What admission has let in, so it is never full.
    entries: IdTable<Entry>,
    /// No more peers than entries: each goes with its last one.
    by_peer: HashMap<Bytes, Peer>,
    /// No entry's deadline is earlier than this.
    next_deadline: Option<Instant>,
}

/// A peer that has something in flight.
#[derive(Debug, Default)]
struct Peer {
    /// What of it waits for a response, by msgid: peers cancel, and peers go.
    waiting: BTreeSet<(MsgId, Ticket)>,
    /// How many entries it has, notifications too, and what they count as.
    entries: usize,
    held: Held,
}

impl InFlight {
    pub(crate) fn new() -> Self {
        Self { entries: IdTable::new(), by_peer: HashMap::default(), next_deadline: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn insert(&mut self, entry: Entry) -> Ticket {
        let id = entry.caller.as_ref().map(|caller| caller.id);
        let (peer, held) = (entry.peer.clone(), entry.held);
        if let Some(deadline) = entry.context.deadline() {
            self.next_deadline =
                Some(self.next_deadline.map_or(deadline, |next| next.min(deadline)));
        }
        let ticket = Ticket(self.entries.insert(entry));
        let peer = self.by_peer.entry(peer).or_default();
        peer.entries += 1;
        peer.held.requests += held.requests;
        peer.held.bytes += held.bytes;
        peer.waiting.extend(id.map(|id| (id, ticket)));
        ticket
    }

    /// What a peer has in flight.
    pub(crate) fn held(&self, peer: &Bytes) -> Held {
        self.by_peer.get(peer).map_or(Held::default(), |peer| peer.held)
    }

    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        self.entries.get_mut(ticket.0)
    }

    /// Removes what has ended.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Entry> {
        let entry = self.entries.remove(ticket.0)?;
        let peer = self.by_peer.get_mut(&entry.peer)?;
        peer.entries -= 1;
        peer.held.requests -= entry.held.requests;
        peer.held.bytes -= entry.held.bytes;
        if peer.entries == 0 {
            self.by_peer.remove(&entry.peer);
        } else if let Some(caller) = &entry.caller {
            peer.waiting.remove(&(caller.id, ticket));
        }
        Some(entry)
    }

    /// Takes the caller of an entry that stays, because its function runs on.
    pub(crate) fn take_caller(&mut self, ticket: Ticket) -> Option<Caller> {
        let entry = self.entries.get_mut(ticket.0)?;
        entry.over = true;
        let caller = entry.caller.take()?;
        self.by_peer.get_mut(&entry.peer)?.waiting.remove(&(caller.id, ticket));
        Some(caller)
    }

    /// The requests that came behind `envelope` with `id`: one, unless the peer used an id twice.
    pub(crate) fn find(&mut self, envelope: &Envelope, id: MsgId) -> Vec<Ticket> {
        let Some(peer) = self.by_peer.get(envelope.peer()) else { return Vec::new() };
        let tickets: Vec<_> = peer
            .waiting
            .range((id, Ticket(0))..=(id, Ticket(u32::MAX)))
            .map(|(_, ticket)| *ticket)
            .collect();
        // Clients behind one proxy share its identity, and all count from one: the whole envelope
        // decides.
        let same = |ticket: &Ticket| {
            let caller = self.entries.get_mut(ticket.0).and_then(|entry| entry.caller.as_ref());
            caller.is_some_and(|caller| caller.envelope == *envelope)
        };
        tickets.into_iter().filter(same).collect()
    }

    /// All requests of a peer that wait for a response, the newest first: what waits for a worker
    /// is to be ended before what runs, whose end would let it start. Notifications are not among
    /// them.
    pub(crate) fn of_peer(&self, peer: &Bytes) -> Vec<Ticket> {
        let requests = self.by_peer.get(peer).map(|peer| &peer.waiting);
        newest_first(requests.into_iter().flatten().map(|(_, ticket)| *ticket).collect())
    }

    /// Everything, the newest first.
    pub(crate) fn all(&mut self) -> Vec<Ticket> {
        newest_first(self.entries.iter_mut().map(|(ticket, _)| Ticket(ticket)).collect())
    }

    /// The function of every entry that runs one.
    pub(crate) fn functions(&mut self) -> impl Iterator<Item = &'static str> {
        let running = self.entries.iter_mut().filter(|(_, entry)| entry.running.is_some());
        running.map(|(_, entry)| entry.context.function())
    }

    /// When [`overdue`](Self::overdue) is to be called next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// The entries whose deadline has passed, apart from those that are over.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<Ticket> {
        if self.next_deadline.is_none_or(|next| now < next) {
            return Vec::new();
        }
        let mut next_deadline: Option<Instant> = None;
        let mut overdue = Vec::new();
        for (ticket, entry) in self.entries.iter_mut() {
            match entry.context.deadline().filter(|_| !entry.over) {
                Some(deadline) if deadline <= now => overdue.push(Ticket(ticket)),
                Some(deadline) => {
                    next_deadline = Some(next_deadline.map_or(deadline, |next| next.min(deadline)));
                }
                None => {}
            }
        }
        self.next_deadline = next_deadline;
        overdue
    }
}

fn newest_first(mut tickets: Vec<Ticket>) -> Vec<Ticket> {
    tickets.sort_unstable_by(|a, b| b.cmp(a));
    tickets
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn envelope(client: &'static str) -> Envelope {
        Envelope::of(&["proxy", client, ""])
    }

    fn entry(client: &'static str, id: u32, deadline: Option<Instant>) -> Entry {
        let envelope = envelope(client);
        let peer = envelope.peer().clone();
        Entry {
            caller: Some(Caller { envelope, id: MsgId(id) }),
            context: Context::new(peer.clone(), "f", deadline),
            peer,
            held: Held { requests: 1, bytes: 10 },
            running: None,
            keyed: None,
            over: false,
        }
    }

    #[test]
    fn requests_behind_one_proxy_are_told_apart_by_the_whole_envelope() {
        let mut in_flight = InFlight::new();
        let a = in_flight.insert(entry("a", 1, None));
        let b = in_flight.insert(entry("b", 1, None));
        let twice = in_flight.insert(entry("b", 1, None));
        assert_eq!(in_flight.find(&envelope("a"), MsgId(1)), [a]);
        assert_eq!(in_flight.find(&envelope("b"), MsgId(1)), [b, twice]);
        assert_eq!(in_flight.find(&envelope("b"), MsgId(2)), []);
        assert_eq!(in_flight.find(&envelope("c"), MsgId(1)), []);
        assert_eq!(in_flight.of_peer(&Bytes::from_static(b"proxy")), [twice, b, a]);
    }

    #[test]
    fn nothing_is_left_of_what_has_ended() {
        let mut in_flight = InFlight::new();
        let removed = in_flight.insert(entry("a", 1, None));
        let answered = in_flight.insert(entry("a", 2, None));
        assert!(in_flight.remove(removed).is_some());
        assert!(in_flight.remove(removed).is_none());
        assert_eq!(in_flight.take_caller(answered).unwrap().id, MsgId(2));
        assert!(in_flight.take_caller(answered).is_none());
        let peer = Bytes::from_static(b"proxy");
        assert_eq!(in_flight.of_peer(&peer), []);
        assert_eq!(in_flight.held(&peer), Held { requests: 1, bytes: 10 }, "its function runs on");
        in_flight.remove(answered);
        assert!(in_flight.is_empty());
        assert!(in_flight.by_peer.is_empty());
    }

    #[test]
    fn what_is_overdue_is_told_of_until_it_is_over() {
        let now = Instant::now();
        let mut in_flight = InFlight::new();
        let soon = in_flight.insert(entry("a", 1, Some(now + SECOND)));
        let later = in_flight.insert(entry("a", 2, Some(now + 2 * SECOND)));
        in_flight.insert(entry("a", 3, None));
        assert_eq!(in_flight.next_deadline(), Some(now + SECOND));
        assert_eq!(in_flight.overdue(now), []);
        assert_eq!(in_flight.overdue(now + SECOND), [soon]);
        in_flight.take_caller(soon);
        assert_eq!(in_flight.next_deadline(), Some(now + 2 * SECOND));
        assert_eq!(in_flight.overdue(now + 2 * SECOND), [later]);
    }
}
