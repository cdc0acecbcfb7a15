//! The load balancer of a client: its links, and the choice of the link for the next call. This
//! code does no I/O and reads no clock.

use std::{collections::VecDeque, sync::Arc, task::Waker, time::Instant};

use bytes::Bytes;

use crate::{
    client::{
        agreed::Agreed,
        balancing::Balancing,
        endpoints::EndpointState,
        window::{Amount, LinkWindow},
    },
    protocol::{
        MsgId,
        control::{PeerInfo, Window},
    },
    util::{
        gauged::{CLIENT_LINKS, Gauged},
        wakers::Wakers,
    },
};

/// The id of a link. An id is not used for another link, so that a reply from a lost link is not
/// taken for a reply from the next link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct LinkId(u32);

/// A link that is up, with the calls that wait to be sent on it, and the state of its server.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) endpoint: Arc<EndpointState>,
    pub(crate) peer: PeerInfo,
    /// The calls to be sent, in order. Some may have ended meanwhile. The queue is never full: the
    /// calls in it have capacity, so that there are no more than calls in flight.
    pub(crate) queue: VecDeque<MsgId>,
    /// The calls to be cancelled. Each of them was sent, and cancels are sent before more calls.
    /// There are therefore never more cancels than calls that may be in flight.
    pub(crate) cancels: VecDeque<MsgId>,
    /// The credit to be given for the items of streams. There is at most one for each half of a
    /// window.
    pub(crate) credits: VecDeque<(MsgId, u64)>,
    /// The items of streams that calls pass as arguments. Each of these calls may have 256 KiB
    /// here.
    pub(crate) items: VecDeque<(MsgId, Bytes)>,
    /// True if a ping is to be sent.
    pub(crate) ping: bool,
    /// The calls whose replies are awaited, and the bytes of their requests.
    pub(crate) sent: Amount,
    /// The limit for what is in flight. `None` if the server states none.
    pub(crate) window: Option<LinkWindow>,
    /// The functions whose parameters agree with those of the server.
    pub(crate) agreed: Agreed,
    /// True if the server is draining: it answers the calls that it has, and takes no new ones.
    pub(crate) draining: bool,
    /// The reason why the carrier takes no messages for now.
    pub(crate) blocked: Option<Arc<str>>,
    /// True if the server owes the answer to a ping. It then gets new calls only if there is no
    /// other server.
    pub(crate) unresponsive: bool,
    /// The end of the backoff for an overloaded server. Until then, it gets new calls only if there
    /// is no other server.
    pub(crate) backs_off_until: Option<Instant>,
    /// The waker of the task that sends, while that task waits.
    pub(crate) sender: Option<Waker>,
    /// The turn in which the link was chosen last, for round robin.
    turn: u64,
    _counted: Gauged,
}

impl Link {
    pub(crate) fn load(&self) -> usize {
        self.queue.len() + self.sent.calls
    }

    /// Returns true if the window allows one more call.
    fn has_room(&self) -> bool {
        self.window.as_ref().is_none_or(|window| self.load() < window.calls())
    }

    /// Returns true if messages wait to be sent.
    pub(crate) fn has_outgoing(&self) -> bool {
        !self.queue.is_empty() || self.has_more_than_calls() || self.ping
    }

    /// Returns true if cancels, credit or items wait to be sent.
    pub(crate) fn has_more_than_calls(&self) -> bool {
        !self.cancels.is_empty() || !self.credits.is_empty() || !self.items.is_empty()
    }

    /// Queues a call.
    pub(crate) fn push(&mut self, id: MsgId, wakers: &mut Wakers) {
        self.queue.push_back(id);
        self.wake_sender(wakers);
    }

    /// Lets the link take no new calls. Returns those that were not sent yet.
    pub(crate) fn drain(&mut self, wakers: &mut Wakers) -> VecDeque<MsgId> {
        self.draining = true;
        self.wake_sender(wakers);
        std::mem::take(&mut self.queue)
    }

    pub(crate) fn wake_sender(&mut self, wakers: &mut Wakers) {
        wakers.extend(self.sender.take());
    }

    /// Notes that no reply is awaited any more to a request of `bytes`.
    pub(crate) fn handle_end(&mut self, bytes: usize, wakers: &mut Wakers) {
        self.sent.calls -= 1;
        self.sent.bytes -= bytes;
        // A draining link ends with its last reply.
        let ends = self.draining && self.sent.calls == 0;
        if ends || self.window.as_ref().is_some_and(|window| window.is_ready(self.sent)) {
            self.wake_sender(wakers);
        }
    }

    /// Takes the window that the server states.
    pub(crate) fn handle_window(&mut self, stated: Window, wakers: &mut Wakers) {
        if let Some(window) = &mut self.window {
            window.handle_window(stated);
            self.wake_sender(wakers);
        }
    }

    /// Returns the tier of the link. A link with a lower tier is preferred.
    fn tier(&self, now: Instant) -> u8 {
        match (self.unresponsive || self.blocked.is_some(), self.backs_off_until) {
            (true, _) => 2,
            (false, Some(until)) if until > now => 1,
            (false, _) => 0,
        }
    }
}

/// Every link of a client.
#[derive(Debug)]
pub(crate) struct Balancer {
    links: Vec<Link>,
    next: u32,
    policy: Balancing,
    /// The number of turns so far, for round robin.
    turn: u64,
    random: fastrand::Rng,
}

impl Balancer {
    /// Returns a balancer without links, which uses `random` to choose among links.
    pub(crate) fn new(policy: Balancing, random: fastrand::Rng) -> Self {
        Self { links: Vec::new(), next: 0, policy, turn: 0, random }
    }

    pub(crate) fn add(&mut self, endpoint: Arc<EndpointState>, peer: PeerInfo) -> LinkId {
        let id = LinkId(self.next);
        self.next = self.next.wrapping_add(1);
        let window = peer.window.map(LinkWindow::new);
        self.links.push(Link {
            id,
            endpoint,
            peer,
            queue: VecDeque::new(),
            cancels: VecDeque::new(),
            credits: VecDeque::new(),
            items: VecDeque::new(),
            ping: false,
            sent: Amount::default(),
            window,
            agreed: Agreed::default(),
            draining: false,
            blocked: None,
            unresponsive: false,
            backs_off_until: None,
            sender: None,
            turn: 0,
            _counted: Gauged::new(CLIENT_LINKS),
        });
        id
    }

    pub(crate) fn remove(&mut self, id: LinkId) -> Option<Link> {
        let index = self.links.iter().position(|link| link.id == id)?;
        Some(self.links.swap_remove(index))
    }

    /// Finds a link. There are about as many links as endpoints, and for so few a linear search is
    /// faster than a hash map.
    pub(crate) fn find(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.id == id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.links.iter_mut()
    }

    /// Queues a ping. Until the peer has answered, the link is chosen only if there is no other.
    pub(crate) fn ping(&mut self, id: LinkId, wakers: &mut Wakers) {
        if let Some(link) = self.find(id) {
            (link.unresponsive, link.ping) = (true, true);
            link.wake_sender(wakers);
        }
    }

    /// Returns the time at which the next pause of an overloaded server ends.
    pub(crate) fn next_pause_end(&self) -> Option<Instant> {
        self.links.iter().filter_map(|link| link.backs_off_until).min()
    }

    /// Ends the pauses that are over.
    pub(crate) fn end_pauses(&mut self, now: Instant) {
        for link in &mut self.links {
            link.backs_off_until = link.backs_off_until.filter(|until| *until > now);
        }
    }

    /// Returns true if a healthy link to another endpoint takes calls.
    pub(crate) fn has_alternative(&self, endpoint: &Arc<EndpointState>, now: Instant) -> bool {
        let is_other = |link: &Link| !Arc::ptr_eq(&link.endpoint, endpoint);
        self.links.iter().any(|link| !link.draining && is_other(link) && link.tier(now) == 0)
    }

    /// Chooses the link for the next call: by the hash of its affinity key, or else by the policy.
    /// Links that are unresponsive or overloaded are chosen only if there is no other link, and
    /// links to the endpoint `avoid` only if no other has room in its window. Returns `None` if no
    /// link takes calls now.
    pub(crate) fn choose(
        &mut self,
        now: Instant,
        avoid: Option<&Arc<EndpointState>>,
        affinity: Option<u64>,
    ) -> Option<&mut Link> {
        // Most clients have a single link.
        if self.links.len() == 1 {
            return self.links.first_mut().filter(|link| !link.draining && link.has_room());
        }
        let index = self.choose_index(now, avoid, affinity)?;
        let link = self.links.get_mut(index)?;
        if self.policy == Balancing::RoundRobin {
            self.turn += 1;
            link.turn = self.turn;
        }
        Some(link)
    }

    fn choose_index(
        &mut self,
        now: Instant,
        avoid: Option<&Arc<EndpointState>>,
        affinity: Option<u64>,
    ) -> Option<usize> {
        let Self { links, random, .. } = self;
        let policy = self.policy;
        let is_avoided =
            |link: &Link| avoid.is_some_and(|avoid| Arc::ptr_eq(&link.endpoint, avoid));
        let is_remote =
            |link: &Link| policy == Balancing::LocalFirst && !link.endpoint.address.is_local();
        let rank = |link: &Link| (is_avoided(link), affinity.is_none() && is_remote(link));
        let open = links.iter().filter(|link| !link.draining);
        let tier = open.map(|link| link.tier(now)).min()?;
        let takes = |link: &Link| !link.draining && link.tier(now) == tier && link.has_room();
        let open = || links.iter().enumerate().filter(|(_, link)| takes(link));
        let best = open().map(|(_, link)| rank(link)).min()?;
        let best = open().filter(|(_, link)| rank(link) == best);
        let chosen = match (affinity, policy) {
            (Some(key), _) => best.max_by_key(|(_, link)| score(key, link.endpoint.hash)),
            (None, Balancing::RoundRobin) => best.min_by_key(|(_, link)| link.turn),
            (None, Balancing::LeastLoaded | Balancing::LocalFirst) => less_loaded(best, random),
        };
        chosen.map(|(index, _)| index)
    }
}

/// Chooses two of `links` at random, and of these the one with less load.
fn less_loaded<'a>(
    links: impl Iterator<Item = (usize, &'a Link)>,
    random: &mut fastrand::Rng,
) -> Option<(usize, &'a Link)> {
    let mut two = [None, None];
    // Reservoir sampling needs no list of the links.
    for (seen, link) in links.enumerate() {
        if seen < 2 {
            two[seen] = Some(link);
        } else if let slot @ 0..2 = random.usize(0..=seen) {
            two[slot] = Some(link);
        }
    }
    match two {
        [Some(a), Some(b)] => {
            let (a, b) = if random.bool() { (a, b) } else { (b, a) };
            Some(if b.1.load() < a.1.load() { b } else { a })
        }
        [first, _] => first,
    }
}

/// Returns how much an affinity key prefers an endpoint, both given by their hashes. The highest
/// score wins (rendezvous hashing), so that a key moves only when its own endpoint leaves. The
/// finalizer of `SplitMix64` mixes the bits, which FNV-1a alone does badly.
/// <https://prng.di.unimi.it/splitmix64.c>
fn score(key: u64, endpoint: u64) -> u64 {
    let mut mixed = key ^ endpoint.rotate_left(32);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
pub(crate) mod tests;
