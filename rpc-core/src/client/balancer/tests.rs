//! Tests of the choice among links.

use std::time::Duration;

use super::*;
use crate::{endpoint::Endpoint, protocol::control::Capabilities, util::fnv};

pub(crate) fn endpoint(name: &str) -> Arc<EndpointState> {
    EndpointState::new(name.into(), Endpoint::Inproc(name.to_owned()))
}

pub(crate) fn peer(instance: &str) -> PeerInfo {
    PeerInfo {
        capabilities: Capabilities::BASE,
        max_message_size: 1_000,
        max_batch: usize::MAX,
        instance: Some(instance.into()),
        window: None,
    }
}

/// A balancer with one link to each of several endpoints.
struct Tested {
    balancer: Balancer,
    endpoints: Vec<Arc<EndpointState>>,
    links: Vec<LinkId>,
}

impl Tested {
    fn new(count: usize) -> Self {
        let mut balancer = Balancer::new(Balancing::default(), fastrand::Rng::with_seed(7));
        let endpoints: Vec<_> = (0..count).map(|n| endpoint(&n.to_string())).collect();
        let links = endpoints.iter().map(|to| balancer.add(Arc::clone(to), peer("one")));
        let links = links.collect();
        Self { balancer, endpoints, links }
    }

    fn link(&mut self, index: usize) -> &mut Link {
        self.balancer.find(self.links[index]).unwrap()
    }

    /// Makes 1,000 choices, and returns the number of times that each link was chosen. If
    /// `loaded`, each choice adds load to the chosen link.
    fn choose(&mut self, avoid: Option<usize>, loaded: bool) -> [usize; 4] {
        let mut counts = [0; 4];
        let avoid = avoid.map(|avoid| Arc::clone(&self.endpoints[avoid]));
        for _ in 0..1_000 {
            let link = self.balancer.choose(Instant::now(), avoid.as_ref(), None).unwrap();
            link.sent.calls += usize::from(loaded);
            let id = link.id;
            counts[self.links.iter().position(|link| *link == id).unwrap()] += 1;
        }
        counts
    }
}

#[test]
fn load_is_spread_evenly() {
    let counts = Tested::new(4).choose(None, true);
    assert!(counts.iter().all(|count| (240..=260).contains(count)), "{counts:?}");
}

#[test]
fn busier_of_two_links_is_not_chosen() {
    let mut tested = Tested::new(2);
    tested.link(0).sent.calls = 10;
    assert_eq!(tested.choose(None, false), [0, 1_000, 0, 0]);
}

#[test]
fn equal_links_are_chosen_equally_often() {
    let counts = Tested::new(3).choose(None, false);
    assert!(counts[..3].iter().all(|count| (250..=420).contains(count)), "{counts:?}");
}

#[test]
fn unhealthy_links_are_the_last_choice() {
    let mut tested = Tested::new(4);
    tested.link(0).unresponsive = true;
    tested.link(1).backs_off_until = Some(Instant::now() + Duration::from_secs(60));
    assert_eq!(tested.choose(Some(2), false), [0, 0, 0, 1_000]);
    tested.link(3).draining = true;
    assert_eq!(tested.choose(Some(2), false), [0, 0, 1_000, 0]);
    tested.link(2).draining = true;
    assert_eq!(tested.choose(Some(1), false), [0, 1_000, 0, 0]);
    tested.balancer.remove(tested.links[1]);
    assert_eq!(tested.choose(None, false), [1_000, 0, 0, 0]);
    tested.link(0).draining = true;
    assert!(tested.balancer.choose(Instant::now(), None, None).is_none());
}

#[test]
fn backoff_of_a_link_ends() {
    let mut tested = Tested::new(2);
    let now = Instant::now();
    tested.link(0).backs_off_until = Some(now);
    tested.link(1).sent.calls = 1;
    assert_eq!(tested.balancer.choose(now, None, None).unwrap().id, tested.links[0]);
}

#[test]
fn sleeping_sender_is_woken_once() {
    let mut tested = Tested::new(1);
    let link = tested.link(0);
    link.sender = Some(Waker::noop().clone());
    for id in 0..3 {
        link.push(MsgId(id), &mut Wakers::default());
    }
    assert!(link.sender.is_none());
    assert_eq!(link.queue, [MsgId(0), MsgId(1), MsgId(2)]);
}

#[test]
fn links_take_turns() {
    let mut tested = Tested::new(3);
    tested.balancer.policy = Balancing::RoundRobin;
    tested.link(1).sent.calls = 1_000;
    let counts = tested.choose(None, false);
    assert!(counts[..3].iter().all(|count| (333..=334).contains(count)), "{counts:?}");
    // A newcomer does not get what it has missed.
    let newcomer = endpoint("newcomer");
    let newcomer = tested.balancer.add(newcomer, peer("one"));
    tested.links.push(newcomer);
    assert_eq!(tested.choose(None, false), [250; 4]);
}

#[test]
fn local_links_come_first() {
    let mut tested = Tested::new(0);
    tested.balancer.policy = Balancing::LocalFirst;
    for name in ["tcp://[::1]:1", "tcp://10.0.0.1:1", "ipc:///x", "tcp://far:1"] {
        let endpoint = EndpointState::new(name.into(), Endpoint::to_connect(name).unwrap());
        let link = tested.balancer.add(Arc::clone(&endpoint), peer("one"));
        tested.links.push(link);
        tested.endpoints.push(endpoint);
    }
    assert_eq!(tested.choose(None, true), [500, 0, 500, 0]);
    assert_eq!(tested.choose(Some(0), true), [0, 0, 1_000, 0]);
    // Others are used when no local one takes calls.
    tested.link(0).unresponsive = true;
    tested.link(2).draining = true;
    assert_eq!(tested.choose(None, true), [0, 500, 0, 500]);
}

#[test]
fn few_keys_move_when_a_server_leaves() {
    const KEYS: u32 = 10_000;
    let mut tested = Tested::new(10);
    let mut places = || {
        let mut place = |key: u32| {
            let key = fnv::hash(format!("user {key}").as_bytes());
            tested.balancer.choose(Instant::now(), None, Some(key)).unwrap().id
        };
        (0..KEYS).map(&mut place).collect::<Vec<_>>()
    };
    let before = places();
    assert_eq!(places(), before, "a key stays where it is");
    let gone = tested.links[3];
    let mut counts = [0; 10];
    for place in &before {
        counts[tested.links.iter().position(|link| link == place).unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
    tested.balancer.remove(gone);
    let mut moved = 0;
    for (key, before) in before.iter().enumerate() {
        let key = fnv::hash(format!("user {key}").as_bytes());
        let after = tested.balancer.choose(Instant::now(), None, Some(key)).unwrap().id;
        assert!(after == *before || *before == gone, "only its own keys move");
        moved += u32::from(after != *before);
    }
    assert_eq!(moved, counts[3]);
}
