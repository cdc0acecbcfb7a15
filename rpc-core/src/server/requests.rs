//! The table of the requests that a listener has in flight: their callers, their deadlines, and the
//! handles that stop their functions. No I/O, no clock.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use bytes::Bytes;
use foldhash::HashMap;

use crate::{
    arrivals::Arrivals,
    context::Context,
    error::{ErrorKind, Ran, RpcError},
    outflow::Outflow,
    peer::PeerId,
    protocol::MsgId,
    server::{
        admission::{BytesPermit, Permit},
        completion::Ticket,
        executor::Started,
        idempotency::Key,
    },
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
    /// `None` if items go neither way.
    pub(crate) streams: Option<Box<Streams>>,
}

/// The streams of a request in flight.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// The items that the function returns. `None` if it returns no stream, or has not been asked
    /// for it.
    pub(crate) outflow: Option<Arc<Outflow>>,
    /// The items that the caller sends. `None` if the function takes no stream.
    pub(crate) arrivals: Option<Arc<Arrivals>>,
    /// The capacity for an item that is larger than the window, which was admitted with the call.
    pub(crate) large_item: Option<BytesPermit>,
}

impl ActiveRequest {
    /// Returns the items that the function returns.
    pub(crate) fn outflow(&self) -> Option<&Arc<Outflow>> {
        self.streams.as_ref()?.outflow.as_ref()
    }

    /// Returns the items that the caller sends.
    pub(crate) fn arrivals(&self) -> Option<&Arc<Arrivals>> {
        self.streams.as_ref()?.arrivals.as_ref()
    }

    /// Ends the items that the caller sends, for a function that still takes them.
    pub(crate) fn end_arrivals(&self, kind: ErrorKind, message: &str) {
        if let Some(arrivals) = self.arrivals() {
            arrivals.fail(RpcError::new(kind, Ran::Yes, message));
        }
    }
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
        request.end_arrivals(ErrorKind::Cancelled, "the call has ended");
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

    /// Adds to the bytes of a request.
    pub(crate) fn add_bytes(&mut self, ticket: Ticket, bytes: usize) {
        let Some(request) = self.active.get_mut(ticket.0) else { return };
        request.usage.bytes += bytes;
        let peer = request.context.peer_id();
        if let Some(load) = self.by_peer.get_mut(peer) {
            load.usage.bytes += bytes;
        }
        if let Some(verified) = peer.verification() {
            verified.account.add(Usage { requests: 0, bytes });
        }
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
        let mut tickets: Vec<_> = load.waiting.range(range).map(|(_, ticket)| *ticket).collect();
        tickets.retain(|ticket| is_of(self.active.get_mut(ticket.0), reply_to));
        tickets
    }

    /// Returns the newest of the requests of a client that have this msgid.
    pub(crate) fn find_newest(&mut self, reply_to: &ReplyTo, id: MsgId) -> Option<Ticket> {
        let load = self.by_peer.get(reply_to.peer())?;
        let range = (id, Ticket(0))..=(id, Ticket(u32::MAX));
        let mut tickets = load.waiting.range(range).map(|(_, ticket)| *ticket);
        tickets.rfind(|ticket| is_of(self.active.get_mut(ticket.0), reply_to))
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

    /// Makes sure that [`overdue`](Self::overdue) is called by `deadline`.
    pub(crate) fn await_by(&mut self, deadline: Option<Instant>) {
        self.next_deadline = [self.next_deadline, deadline].into_iter().flatten().min();
    }

    /// Returns the requests whose deadline has passed, apart from settled ones. Ends the items of
    /// callers that have been silent for too long.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<Ticket> {
        if self.next_deadline.is_none_or(|next| now < next) {
            return Vec::new();
        }
        let mut next_deadline: Option<Instant> = None;
        let mut overdue = Vec::new();
        for (ticket, request) in self.active.iter_mut() {
            let is_settled = matches!(request.owner, Owner::Settled);
            if let Some(at) = request.arrivals().and_then(|arrivals| arrivals.check(now)) {
                next_deadline = Some(next_deadline.map_or(at, |next| next.min(at)));
            }
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

/// The account of a key outlives this server, if others have the same access list. So does a sync
/// function that waits for items.
impl Drop for Requests {
    fn drop(&mut self) {
        for (_, request) in self.active.iter_mut() {
            request.end_arrivals(ErrorKind::Cancelled, "the server has stopped");
            // Nobody takes items any more, and so it would wait forever.
            if let (Some(_), Some(Started::Task(task))) = (request.outflow(), &request.started) {
                task.abort();
            }
        }
        for (peer, load) in &self.by_peer {
            if let Some(verified) = peer.verification() {
                verified.account.subtract(load.usage);
            }
        }
    }
}

/// Returns true if a request waits for a response to a client. Clients behind one proxy appear as
/// the same peer, and each of them counts its msgids from one. Only the whole return address
/// identifies a client.
fn is_of(request: Option<&mut ActiveRequest>, reply_to: &ReplyTo) -> bool {
    let caller = request.and_then(|request| request.owner.caller());
    caller.is_some_and(|caller| caller.reply_to == *reply_to)
}

fn newest_first(mut tickets: Vec<Ticket>) -> Vec<Ticket> {
    tickets.sort_unstable_by(|a, b| b.cmp(a));
    tickets
}

#[cfg(test)]
mod tests;
