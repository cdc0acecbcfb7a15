//! The links that a client has to its endpoints, and which of them the next call goes to. No I/O,
//! no clock.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use tokio::sync::Notify;

use crate::message::MsgId;

/// Names a link. Never used again, so that nothing which was meant for a lost link can reach the
/// next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct LinkId(u32);

/// What `rpc.hello` has told of the peer.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// It knows this protocol; otherwise it is plain MessagePack-RPC, without options, ping and
    /// cancel.
    pub(crate) extended: bool,
    /// The longest message that both sides take, in bytes.
    pub(crate) max_message_size: usize,
    /// Small messages may travel together.
    pub(crate) batches: bool,
    /// The server process, if it said which it is.
    pub(crate) instance: Option<Arc<str>>,
}

/// A link that is up: what waits to be sent on it, and how many calls wait for its replies.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    /// The index of the endpoint it leads to.
    pub(crate) endpoint: usize,
    pub(crate) peer: Peer,
    /// Calls that are to be sent, in order; some may have ended meanwhile. No more than calls in
    /// flight, so it is never full.
    pub(crate) queue: VecDeque<MsgId>,
    /// No more than calls in flight: they are taken before any more calls are sent, and each was
    /// one that was.
    pub(crate) cancels: VecDeque<MsgId>,
    /// A ping is to be sent.
    pub(crate) ping: bool,
    /// Calls whose replies are awaited.
    pub(crate) sent: usize,
    /// The server said goodbye: it answers what it has, and takes nothing new.
    pub(crate) leaving: bool,
    /// It owes an answer to a ping. It gets new calls only if there is no other.
    pub(crate) silent: bool,
    /// The server was overloaded, and is left alone until then if there is another.
    pub(crate) resting_until: Option<Instant>,
    /// Wakes whoever sends.
    pub(crate) wake: Arc<Notify>,
}

impl Link {
    fn load(&self) -> usize {
        self.queue.len() + self.sent
    }

    /// Whether something waits to be sent.
    pub(crate) fn has_outgoing(&self) -> bool {
        !self.queue.is_empty() || !self.cancels.is_empty() || self.ping
    }

    /// Puts a call into the queue. Who sends is woken if it may sleep.
    pub(crate) fn push(&mut self, id: MsgId) {
        if self.queue.is_empty() {
            self.wake.notify_one();
        }
        self.queue.push_back(id);
    }

    /// How good a choice it is: the less the better.
    fn tier(&self, now: Instant) -> u8 {
        match (self.silent, self.resting_until) {
            (true, _) => 2,
            (false, Some(until)) if until > now => 1,
            (false, _) => 0,
        }
    }
}

/// Every link of a client.
#[derive(Debug)]
pub(crate) struct Links {
    all: Vec<Link>,
    next: u32,
    random: fastrand::Rng,
}

impl Links {
    /// `random` chooses among links.
    pub(crate) fn new(random: fastrand::Rng) -> Self {
        Self { all: Vec::new(), next: 0, random }
    }

    pub(crate) fn add(&mut self, endpoint: usize, peer: Peer, wake: Arc<Notify>) -> LinkId {
        let id = LinkId(self.next);
        self.next = self.next.wrapping_add(1);
        self.all.push(Link {
            id,
            endpoint,
            peer,
            queue: VecDeque::new(),
            cancels: VecDeque::new(),
            ping: false,
            sent: 0,
            leaving: false,
            silent: false,
            resting_until: None,
            wake,
        });
        id
    }

    pub(crate) fn remove(&mut self, id: LinkId) -> Option<Link> {
        let index = self.all.iter().position(|link| link.id == id)?;
        Some(self.all.swap_remove(index))
    }

    /// There are as many as endpoints, and a few that are leaving: a search is faster than a hash.
    pub(crate) fn find(&mut self, id: LinkId) -> Option<&mut Link> {
        self.all.iter_mut().find(|link| link.id == id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.all.iter()
    }

    /// The link owes an answer: it is asked for one, and chosen last until it has given it.
    pub(crate) fn ping(&mut self, id: LinkId) {
        if let Some(link) = self.find(id) {
            (link.silent, link.ping) = (true, true);
            link.wake.notify_one();
        }
    }

    /// Every link's queue.
    pub(crate) fn queues(&mut self) -> impl Iterator<Item = &mut VecDeque<MsgId>> {
        self.all.iter_mut().map(|link| &mut link.queue)
    }

    /// Whether a link to another endpoint takes calls, and is well.
    pub(crate) fn has_other(&self, endpoint: usize, now: Instant) -> bool {
        self.all
            .iter()
            .any(|link| !link.leaving && link.endpoint != endpoint && link.tier(now) == 0)
    }

    /// The link for the next call: of two that are chosen at random, the one with less to do. Links
    /// that are silent or overloaded, and those to the endpoint `avoid`, are chosen only if there
    /// is no other. `None` if there is no link that takes calls.
    pub(crate) fn choose(&mut self, now: Instant, avoid: Option<usize>) -> Option<&mut Link> {
        let index = self.choose_index(now, avoid)?;
        self.all.get_mut(index)
    }

    fn choose_index(&mut self, now: Instant, avoid: Option<usize>) -> Option<usize> {
        let Self { all: links, random, .. } = self;
        // The way of most clients.
        if let [link] = links.as_slice() {
            return (!link.leaving).then_some(0);
        }
        let rank = |link: &Link| (link.tier(now), u8::from(Some(link.endpoint) == avoid));
        let open = || links.iter().enumerate().filter(|(_, link)| !link.leaving);
        let best = open().map(|(_, link)| rank(link)).min()?;
        let mut two = [None, None];
        // Two of the best at random, by reservoir: there is no list of them to pick from.
        for (seen, (index, _)) in open().filter(|(_, link)| rank(link) == best).enumerate() {
            if seen < 2 {
                two[seen] = Some(index);
            } else if let place @ 0..2 = random.usize(0..=seen) {
                two[place] = Some(index);
            }
        }
        match two {
            [Some(a), Some(b)] => {
                let (a, b) = if random.bool() { (a, b) } else { (b, a) };
                Some(if links[b].load() < links[a].load() { b } else { a })
            }
            [first, _] => first,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    pub(crate) fn peer(instance: &str) -> Peer {
        Peer {
            extended: true,
            max_message_size: 1_000,
            batches: true,
            instance: Some(instance.into()),
        }
    }

    fn links(count: usize) -> (Links, Vec<LinkId>) {
        let mut links = Links::new(fastrand::Rng::with_seed(7));
        let ids =
            (0..count).map(|endpoint| links.add(endpoint, peer("one"), Arc::default())).collect();
        (links, ids)
    }

    /// How often each endpoint is chosen in 1,000 choices, each of which becomes load if `loaded`.
    fn chosen(links: &mut Links, avoid: Option<usize>, loaded: bool) -> [usize; 4] {
        let mut counts = [0; 4];
        for _ in 0..1_000 {
            let link = links.choose(Instant::now(), avoid).unwrap();
            link.sent += usize::from(loaded);
            counts[link.endpoint] += 1;
        }
        counts
    }

    #[test]
    fn load_is_spread_evenly() {
        let (mut links, _) = links(4);
        let counts = chosen(&mut links, None, true);
        assert!(counts.iter().all(|count| (240..=260).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_busier_of_two_gets_nothing() {
        let (mut links, ids) = links(2);
        links.find(ids[0]).unwrap().sent = 10;
        assert_eq!(chosen(&mut links, None, false), [0, 1_000, 0, 0]);
    }

    #[test]
    fn equals_are_chosen_equally_often() {
        let (mut links, _) = links(3);
        let counts = chosen(&mut links, None, false);
        assert!(counts[..3].iter().all(|count| (250..=420).contains(count)), "{counts:?}");
    }

    #[test]
    fn what_is_silent_overloaded_or_to_be_avoided_is_chosen_only_if_there_is_no_other() {
        let (mut links, ids) = links(4);
        links.find(ids[0]).unwrap().silent = true;
        links.find(ids[1]).unwrap().resting_until = Some(Instant::now() + Duration::from_secs(60));
        assert_eq!(chosen(&mut links, Some(2), false), [0, 0, 0, 1_000]);
        links.find(ids[3]).unwrap().leaving = true;
        assert_eq!(chosen(&mut links, Some(2), false), [0, 0, 1_000, 0]);
        links.find(ids[2]).unwrap().leaving = true;
        assert_eq!(chosen(&mut links, Some(1), false), [0, 1_000, 0, 0]);
        links.remove(ids[1]);
        assert_eq!(chosen(&mut links, None, false), [1_000, 0, 0, 0]);
        links.find(ids[0]).unwrap().leaving = true;
        assert!(links.choose(Instant::now(), None).is_none());
    }

    #[test]
    fn a_rest_ends() {
        let (mut links, ids) = links(2);
        let now = Instant::now();
        links.find(ids[0]).unwrap().resting_until = Some(now);
        links.find(ids[1]).unwrap().sent = 1;
        assert_eq!(links.choose(now, None).unwrap().id, ids[0]);
    }

    #[test]
    fn a_call_wakes_the_sender_only_from_an_empty_queue() {
        let (mut links, ids) = links(1);
        let link = links.find(ids[0]).unwrap();
        for id in 0..3 {
            link.push(MsgId(id));
        }
        assert_eq!(link.queue, [MsgId(0), MsgId(1), MsgId(2)]);
    }
}
