//! The table of the requests that a listener has in flight: their callers, their deadlines, and the
//! handles that stop their functions. No I/O, no clock.

use std::{collections::BTreeSet, time::Instant};

use bytes::Bytes;
use foldhash::HashMap;

use crate::{
    context::Context,
    peer::PeerId,
    protocol::MsgId,
    server::{admission::Permit, completion::Ticket, executor::Started, idempotency::Key},
    transport::ReplyTo,
    usage::Usage,
    util::slab::Slab,
};

/// A request or notification in flight: its function has not ended.
#[derive(Debug)]
pub(crate) struct ActiveRequest {
    pub(crate) owner: Owner,
    pub(crate) context: Context,
    /// The amount by which this request adds to the usage of its peer.
    pub(crate) usage: Usage,
    /// The handle that stops the function. `None` until the request was given to the executor, and
    /// for a request that waits for the completion of another one.
    pub(crate) started: Option<Started>,
}

/// The recipient of the outcome of a request.
#[derive(Debug)]
pub(crate) enum Owner {
    /// The caller, which is sent the response.
    Caller(Caller),
    /// Nobody, because the request is a notification. Its address is kept until it has ended, for a
    /// carrier that delivers it again if it has not.
    Nobody { _address: ReplyTo },
    /// An idempotency key: the function runs on behalf of every request with this key.
    Key(Key),
    /// A caller that waits for the completion of the call with this key.
    Waiter {
        caller: Caller,
        key: Key,
        /// `None` for the first request, because its permit belongs to the function.
        _permit: Option<Permit>,
    },
    /// Nobody any more. The request was answered or given up, and stays in the table only until its
    /// sync function returns.
    Settled,
}

impl Owner {
    /// Returns the client that waits for a response, if there is one.
    pub(crate) fn caller(&self) -> Option<&Caller> {
        match self {
            Self::Caller(caller) | Self::Waiter { caller, .. } => Some(caller),
            Self::Nobody { .. } | Self::Key(_) | Self::Settled => None,
        }
    }
}

/// A client that waits for a response.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) reply_to: ReplyTo,
    pub(crate) id: MsgId,
}

/// All requests that a listener has in flight.
#[derive(Debug)]
pub(crate) struct Requests {
    /// The requests by ticket. Admission bounds their number, so that the slab is never full.
    active: Slab<ActiveRequest>,
    /// The peers that have a request in flight. A peer is removed with its last request.
    by_peer: HashMap<PeerId, PeerLoad>,
    /// A lower bound of the deadlines of all requests.
    next_deadline: Option<Instant>,
}

/// The requests of one peer that are in flight.
#[derive(Debug, Default)]
struct PeerLoad {
    /// The requests that wait for a response, ordered by msgid. They are needed when a client
    /// cancels a call, and when the peer has disconnected.
    waiting: BTreeSet<(MsgId, Ticket)>,
    /// The number of requests, including notifications.
    active: usize,
    usage: Usage,
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self { active: Slab::new(), by_peer: HashMap::default(), next_deadline: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Adds a request, and returns its ticket.
    pub(crate) fn insert(&mut self, request: ActiveRequest) -> Ticket {
        let id = request.owner.caller().map(|caller| caller.id);
        let (peer, usage) = (request.context.peer_id().clone(), request.usage);
        if let Some(deadline) = request.context.deadline() {
            self.next_deadline =
                Some(self.next_deadline.map_or(deadline, |next| next.min(deadline)));
        }
        let ticket = Ticket(self.active.insert(request));
        if let Some(verified) = peer.verification() {
            verified.account.add(usage);
        }
        let load = self.by_peer.entry(peer).or_default();
        load.active += 1;
        load.usage.requests += usage.requests;
        load.usage.bytes += usage.bytes;
        load.waiting.extend(id.map(|id| (id, ticket)));
        ticket
    }

    /// Notes how a function that was started can be stopped.
    pub(crate) fn started(&mut self, ticket: Ticket, started: Started) {
        if let Some(request) = self.get_mut(ticket) {
            request.started = Some(started);
        }
    }

    /// Returns the number and the bytes of the requests that a peer has in flight. A verified key
    /// counts as one peer, with all its connections.
    pub(crate) fn usage(&self, peer: &PeerId) -> Usage {
        if let Some(verified) = peer.verification() {
            return verified.account.usage();
        }
        self.by_peer.get(peer).map_or(Usage::default(), |load| load.usage)
    }

    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut ActiveRequest> {
        self.active.get_mut(ticket.0)
    }

    /// Removes a request that has ended.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<ActiveRequest> {
        let request = self.active.remove(ticket.0)?;
        let peer = request.context.peer_id();
        if let Some(verified) = peer.verification() {
            verified.account.subtract(request.usage);
        }
        let load = self.by_peer.get_mut(peer)?;
        load.active -= 1;
        load.usage.requests -= request.usage.requests;
        load.usage.bytes -= request.usage.bytes;
        if load.active == 0 {
            self.by_peer.remove(peer);
        } else if let Some(caller) = request.owner.caller() {
            load.waiting.remove(&(caller.id, ticket));
        }
        Some(request)
    }

    /// Settles a request: takes its owner, but keeps the request in the table, because its function
    /// still runs.
    pub(crate) fn settle(&mut self, ticket: Ticket) -> Option<Owner> {
        let request = self.active.get_mut(ticket.0)?;
        let owner = std::mem::replace(&mut request.owner, Owner::Settled);
        if let Some(caller) = owner.caller() {
            let load = self.by_peer.get_mut(request.context.peer_id())?;
            load.waiting.remove(&(caller.id, ticket));
        }
        Some(owner)
    }

    /// Returns the requests of a client that have this msgid. There is one, unless the client has
    /// used the msgid more than once.
    pub(crate) fn find(&mut self, reply_to: &ReplyTo, id: MsgId) -> Vec<Ticket> {
        let Some(load) = self.by_peer.get(reply_to.peer()) else { return Vec::new() };
        let range = (id, Ticket(0))..=(id, Ticket(u32::MAX));
        let tickets: Vec<_> = load.waiting.range(range).map(|(_, ticket)| *ticket).collect();
        // Clients behind one proxy appear as the same peer, and each of them counts its msgids from
        // one. Only the whole return address identifies a client.
        let same = |ticket: &Ticket| {
            let request = self.active.get_mut(ticket.0);
            let caller = request.and_then(|request| request.owner.caller());
            caller.is_some_and(|caller| caller.reply_to == *reply_to)
        };
        tickets.into_iter().filter(same).collect()
    }

    /// Returns all requests of a peer that wait for a response, the newest first. Notifications are
    /// not among them.
    ///
    /// In this order, a request that waits for a worker is aborted before the older ones that run.
    /// The end of a running one would let the waiting one start.
    pub(crate) fn of_peer(&self, peer: &PeerId) -> Vec<Ticket> {
        let waiting = self.by_peer.get(peer).map(|load| &load.waiting);
        newest_first(waiting.into_iter().flatten().map(|(_, ticket)| *ticket).collect())
    }

    /// Returns all requests of a verified key, the newest first.
    pub(crate) fn of_holder(&mut self, holder: &Bytes) -> Vec<Ticket> {
        let all = self.active.iter_mut();
        let theirs = all.filter(|(_, request)| request.context.peer_id().holder() == holder);
        newest_first(theirs.map(|(ticket, _)| Ticket(ticket)).collect())
    }

    /// Returns all requests, the newest first. See [`of_peer`](Self::of_peer) for the reason.
    pub(crate) fn all(&mut self) -> Vec<Ticket> {
        newest_first(self.active.iter_mut().map(|(ticket, _)| Ticket(ticket)).collect())
    }

    /// Iterates over the names of the functions that were started.
    pub(crate) fn functions(&mut self) -> impl Iterator<Item = &'static str> {
        let started = self.active.iter_mut().filter(|(_, request)| request.started.is_some());
        started.map(|(_, request)| request.context.function())
    }

    /// Returns the time at which [`overdue`](Self::overdue) must be called next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Returns the requests whose deadline has passed, apart from settled ones.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<Ticket> {
        if self.next_deadline.is_none_or(|next| now < next) {
            return Vec::new();
        }
        let mut next_deadline: Option<Instant> = None;
        let mut overdue = Vec::new();
        for (ticket, request) in self.active.iter_mut() {
            let is_settled = matches!(request.owner, Owner::Settled);
            match request.context.deadline().filter(|_| !is_settled) {
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

/// The account of a key outlives this server, if others have the same access list.
impl Drop for Requests {
    fn drop(&mut self) {
        for (peer, load) in &self.by_peer {
            if let Some(verified) = peer.verification() {
                verified.account.subtract(load.usage);
            }
        }
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

    fn reply_to(client: &'static str) -> ReplyTo {
        ReplyTo::of(&["proxy", client, ""])
    }

    fn request(client: &'static str, id: u32, deadline: Option<Instant>) -> ActiveRequest {
        let reply_to = reply_to(client);
        let peer = reply_to.peer().clone();
        ActiveRequest {
            owner: Owner::Caller(Caller { reply_to, id: MsgId(id) }),
            context: Context::new(peer, "f", deadline),
            usage: Usage { requests: 1, bytes: 10 },
            started: None,
        }
    }

    #[test]
    fn proxied_clients_have_separate_msgids() {
        let mut requests = Requests::new();
        let a = requests.insert(request("a", 1, None));
        let b = requests.insert(request("b", 1, None));
        let twice = requests.insert(request("b", 1, None));
        assert_eq!(requests.find(&reply_to("a"), MsgId(1)), [a]);
        assert_eq!(requests.find(&reply_to("b"), MsgId(1)), [b, twice]);
        assert_eq!(requests.find(&reply_to("b"), MsgId(2)), []);
        assert_eq!(requests.find(&reply_to("c"), MsgId(1)), []);
        assert_eq!(requests.of_peer(reply_to("a").peer()), [twice, b, a]);
    }

    #[test]
    fn ended_request_releases_its_load() {
        let mut requests = Requests::new();
        let removed = requests.insert(request("a", 1, None));
        let answered = requests.insert(request("a", 2, None));
        assert!(requests.remove(removed).is_some());
        assert!(requests.remove(removed).is_none());
        let owner = requests.settle(answered).unwrap();
        assert_eq!(owner.caller().unwrap().id, MsgId(2));
        assert!(matches!(requests.settle(answered), Some(Owner::Settled)));
        let proxy = reply_to("a").peer().clone();
        assert_eq!(requests.of_peer(&proxy), []);
        // The function of the settled request still runs.
        assert_eq!(requests.usage(&proxy), Usage { requests: 1, bytes: 10 });
        requests.remove(answered);
        assert!(requests.is_empty());
        assert!(requests.by_peer.is_empty());
    }

    #[test]
    fn overdue_request_is_reported_until_settled() {
        let now = Instant::now();
        let mut requests = Requests::new();
        let soon = requests.insert(request("a", 1, Some(now + SECOND)));
        let later = requests.insert(request("a", 2, Some(now + 2 * SECOND)));
        requests.insert(request("a", 3, None));
        assert_eq!(requests.next_deadline(), Some(now + SECOND));
        assert_eq!(requests.overdue(now), []);
        assert_eq!(requests.overdue(now + SECOND), [soon]);
        requests.settle(soon);
        assert_eq!(requests.next_deadline(), Some(now + 2 * SECOND));
        assert_eq!(requests.overdue(now + 2 * SECOND), [later]);
    }
}
