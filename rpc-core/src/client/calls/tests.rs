//! Tests of calls without sockets, with a clock that the test sets.

mod queues;
mod retry;
mod stored;
mod streams;
mod transmit;
mod windows;

use std::time::Duration;

use bytes::Bytes;

use super::{
    retry::{CallPolicy, Extras},
    *,
};
use crate::{
    client::balancer::{
        Link,
        tests::{endpoint, peer},
    },
    function::Signature,
    protocol::{
        batch,
        control::{self, PeerInfo},
        outgoing::EncodedArgs,
        request::{self, ClientMessage},
        response,
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// The calls of a client under test, and the current time.
struct Tested {
    calls: Calls,
    endpoints: Vec<Arc<EndpointState>>,
    now: Instant,
    wakers: Wakers,
}

impl Tested {
    fn new(endpoints: usize) -> Self {
        Self::with_capacity(endpoints, Capacity::new(10, 10_000, WhenFull::Wait))
    }

    fn with_capacity(endpoints: usize, capacity: Capacity) -> Self {
        let endpoints: Vec<_> =
            (0..endpoints).map(|index| endpoint(&format!("endpoint-{index}"))).collect();
        let mut calls = Calls::new(capacity, Balancing::default(), fastrand::Rng::with_seed(7));
        for endpoint in &endpoints {
            calls.insert_endpoint(endpoint);
        }
        Self { calls, endpoints, now: Instant::now(), wakers: Wakers::default() }
    }

    /// Makes a client with one link to each endpoint. Each endpoint belongs to a server of its own.
    fn linked(endpoints: usize) -> (Self, Vec<LinkId>) {
        let mut tested = Self::new(endpoints);
        let links =
            (0..endpoints).map(|index| tested.link(index, peer(&format!("server-{index}"))));
        let links = links.collect::<Vec<_>>();
        (tested, links)
    }

    fn link(&mut self, endpoint: usize, peer: PeerInfo) -> LinkId {
        self.calls.link_up(&self.endpoints[endpoint], peer, self.now, &mut self.wakers)
    }

    fn link_failed(&mut self, endpoint: usize, cause: &str) {
        self.calls.link_failed(&self.endpoints[endpoint], cause, self.now, &mut self.wakers);
    }

    fn find(&mut self, link: LinkId) -> &mut Link {
        self.calls.balancer.find(link).expect("it is up")
    }

    fn submit(&mut self, policy: CallPolicy) -> MsgId {
        self.submit_args(policy, &()).unwrap()
    }

    fn submit_args(
        &mut self,
        policy: CallPolicy,
        args: &impl serde::Serialize,
    ) -> Result<MsgId, RpcError> {
        let message = EncodedArgs::dynamic("f", args).finish().unwrap();
        let deadline = self.now + 10 * SECOND;
        self.submit_call(NewCall {
            message,
            kind: CallKind::Request,
            policy,
            deadline,
            signature: Signature::UNKNOWN,
            flows: None,
        })
    }

    fn submit_call(&mut self, call: NewCall) -> Result<MsgId, RpcError> {
        self.calls.submit(call, Waker::noop(), self.now, &mut self.wakers)
    }

    /// Takes the messages that are sent on a link now. Batches are unpacked.
    fn take(&mut self, link: LinkId) -> Vec<Bytes> {
        let bodies = self.take_bodies(link, 256).into_iter();
        bodies
            .flat_map(|body| batch::unpack(&body).map_or(vec![body], |all| all.flatten().collect()))
            .collect()
    }

    fn take_bodies(&mut self, link: LinkId, max: usize) -> Vec<Bytes> {
        self.transmit(link, max).into_iter().map(|transmit| transmit.body).collect()
    }

    fn transmit(&mut self, link: LinkId, max: usize) -> Vec<Transmit> {
        let (mut out, waker) = (Vec::new(), Waker::noop());
        let now = self.now;
        self.calls.poll_transmit(link, max, || now, waker, &mut out, &mut self.wakers);
        out
    }

    /// Receives a reply on a link. Returns true if the reply ends the call.
    fn reply(&mut self, link: LinkId, id: MsgId, body: impl Into<Bytes>) -> bool {
        let mut wakers = Wakers::default();
        self.calls.handle_reply(link, id, body.into(), &mut wakers);
        !wakers.is_empty()
    }

    fn fail(&mut self, link: LinkId, id: MsgId, kind: ErrorKind, ran: Ran) {
        self.refuse(link, id, RpcError::new(kind, ran, "no luck"));
    }

    fn refuse(&mut self, link: LinkId, id: MsgId, error: RpcError) {
        self.calls.handle_refusal(link, id, error, self.now, &mut self.wakers);
    }

    fn go_away(&mut self, link: LinkId) {
        self.calls.handle_go_away(link, self.now, &mut self.wakers);
    }

    fn lose(&mut self, link: LinkId) {
        let lost = || RpcError::new(ErrorKind::Disconnected, Ran::Maybe, "lost");
        self.calls.link_down(link, "the cable", lost, self.now, &mut self.wakers);
    }

    /// Advances the clock to the next timeout, and handles it.
    fn pass(&mut self) {
        self.now = self.calls.next_timeout().expect("something is due").max(self.now);
        self.handle_timeout();
    }

    fn handle_timeout(&mut self) {
        self.calls.handle_timeout(self.now, &mut self.wakers);
    }

    fn admit(&mut self) {
        self.calls.admit(self.now, &mut self.wakers);
    }

    fn outcome(&mut self, id: MsgId) -> Option<Outcome> {
        self.calls.poll_outcome(id, Waker::noop(), &mut None)
    }

    fn error(&mut self, id: MsgId) -> (ErrorKind, Ran) {
        let error = self.outcome(id).expect("it has ended").unwrap_err();
        (error.kind(), error.ran())
    }

    fn cancel(&mut self, id: MsgId) {
        self.calls.cancel(id, &mut None, &mut self.wakers);
    }
}

/// Returns a peer that supports only plain MessagePack-RPC.
fn plain_peer() -> PeerInfo {
    control::read_server_hello(None, 1_000)
}

fn plain() -> CallPolicy {
    CallPolicy { idempotent: false, retries: u32::MAX, fail_fast: false, extras: None }
}

fn idempotent() -> CallPolicy {
    CallPolicy { idempotent: true, ..plain() }
}

/// Returns the ids of the requests in these bodies.
fn sent_ids(bodies: &[Bytes]) -> Vec<MsgId> {
    let messages = bodies.iter().flat_map(|body| {
        batch::unpack(body).map_or(vec![body.clone()], |all| all.flatten().collect())
    });
    messages
        .map(|body| match request::parse(&body) {
            Ok(ClientMessage::Request(request)) => request.id,
            other => panic!("no request: {other:?}"),
        })
        .collect()
}

fn keyed() -> CallPolicy {
    let extras = Extras { idempotency: Some(b"once"[..].into()), ..Extras::default() };
    CallPolicy { extras: Some(Box::new(extras)), ..plain() }
}

fn fail_fast() -> CallPolicy {
    CallPolicy { fail_fast: true, ..plain() }
}

#[test]
fn call_is_sent_and_completed_once() {
    let (mut tested, links) = Tested::linked(1);
    let id = tested.submit(plain());
    assert_eq!(tested.take(links[0]).len(), 1);
    assert!(tested.take(links[0]).is_empty());
    assert!(tested.outcome(id).is_none());
    assert!(tested.reply(links[0], id, Bytes::from_static(b"1")));
    assert!(!tested.reply(links[0], id, Bytes::from_static(b"2")));
    assert_eq!(tested.outcome(id).unwrap().unwrap().body, "1");
    assert_eq!(tested.find(links[0]).sent.calls, 0);
    assert_eq!((tested.calls.capacity.calls, tested.calls.capacity.bytes), (0, 0));
}

#[test]
fn unexpected_replies_are_ignored() {
    let (mut tested, links) = Tested::linked(2);
    assert!(!tested.reply(links[0], MsgId(7), Bytes::new()));
    let id = tested.submit(plain());
    // The call was not sent yet, so that this cannot be its reply.
    assert!(!tested.reply(links[0], id, Bytes::new()));
    let sent_on = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    // A reply from another link is not its reply either.
    assert!(!tested.reply(links[1 - sent_on], id, Bytes::new()));
    assert!(tested.outcome(id).is_none());
}

#[test]
fn call_waits_for_link() {
    let mut tested = Tested::new(1);
    let id = tested.submit(plain());
    tested.link_failed(0, "no server is there");
    assert!(tested.outcome(id).is_none());
    let link = tested.link(0, peer("one"));
    assert_eq!(tested.take(link).len(), 1);
}

#[test]
fn fail_fast_waits_for_first_attempts_only() {
    let mut tested = Tested::new(2);
    let early = tested.submit(fail_fast());
    tested.link_failed(0, "refused");
    assert!(tested.outcome(early).is_none(), "the other server may still answer");
    tested.link_failed(1, "no route");
    let error = tested.outcome(early).unwrap().unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::No));
    assert_eq!(
        format!("{error:#}"),
        "endpoint-0, endpoint-1: there is no connection: endpoint-0: refused; endpoint-1: no route"
    );
    let later = tested.submit(fail_fast());
    assert_eq!(tested.error(later), (ErrorKind::Disconnected, Ran::No));
    let link = tested.link(0, peer("one"));
    let sent = tested.submit(fail_fast());
    tested.take(link);
    tested.lose(link);
    assert_eq!(tested.error(sent), (ErrorKind::Disconnected, Ran::Maybe));
}

#[test]
fn unsent_calls_of_lost_link_are_rerouted() {
    let (mut tested, links) = Tested::linked(2);
    let ids: Vec<_> = (0..6).map(|_| tested.submit(plain())).collect();
    tested.lose(links[0]);
    assert_eq!(tested.take(links[1]).len(), 6);
    assert!(ids.into_iter().all(|id| tested.outcome(id).is_none()));
}

#[test]
fn any_reply_ends_unresponsive_state() {
    let (mut tested, links) = Tested::linked(1);
    tested.calls.balancer.ping(links[0], &mut Wakers::default());
    assert!(tested.find(links[0]).unresponsive);
    // The answer to the ping, which has the id of no call.
    tested.reply(links[0], MsgId(1_000), Bytes::new());
    assert!(!tested.find(links[0]).unresponsive);
}

#[test]
fn draining_server_answers_but_gets_no_calls() {
    let (mut tested, links) = Tested::linked(2);
    let ids: Vec<_> = (0..2).map(|_| tested.submit(plain())).collect();
    let old: Vec<_> = tested.take(links[0]);
    assert_eq!(old.len(), 1);
    tested.go_away(links[0]);
    tested.submit(plain());
    assert!(tested.take(links[0]).is_empty());
    assert_eq!(tested.take(links[1]).len(), 2);
    let answered = ids.into_iter().find(|id| tested.reply(links[0], *id, Bytes::new()));
    assert!(tested.outcome(answered.unwrap()).unwrap().is_ok());
}

#[test]
fn cancelled_call_is_unsent_or_cancelled() {
    let (mut tested, links) = Tested::linked(1);
    let queued = tested.submit(plain());
    tested.cancel(queued);
    assert!(tested.take(links[0]).is_empty());
    let sent = tested.submit(plain());
    tested.take(links[0]);
    tested.cancel(sent);
    let bodies = tested.take(links[0]);
    let Ok(ClientMessage::Notification(cancel)) = request::parse(&bodies[0]) else {
        panic!("{bodies:?}")
    };
    assert_eq!(cancel.method, "rpc.cancel");
    assert!(!tested.reply(links[0], sent, Bytes::new()));
    let backs_off = tested.submit(idempotent());
    tested.take(links[0]);
    tested.fail(links[0], backs_off, ErrorKind::Overloaded, Ran::No);
    tested.cancel(backs_off);
    tested.pass();
    assert!(tested.take(links[0]).is_empty());
}

#[test]
fn deadline_error_tells_whether_call_ran() {
    let (mut tested, links) = Tested::linked(1);
    let sent = tested.submit(plain());
    tested.take(links[0]);
    let queued = tested.submit(plain());
    tested.now += 10 * SECOND;
    assert!(tested.take(links[0]).is_empty(), "the deadline of the queued call has passed");
    tested.handle_timeout();
    assert_eq!(tested.error(sent), (ErrorKind::DeadlineExceeded, Ran::Maybe));
    assert_eq!(tested.error(queued), (ErrorKind::DeadlineExceeded, Ran::No));
    assert_eq!(tested.take(links[0]).len(), 1, "the sent call is cancelled on its server");
    assert_eq!(tested.calls.next_timeout(), None);
}

#[test]
fn closing_client_ends_every_call() {
    let (mut tested, links) = Tested::linked(1);
    let sent = tested.submit(idempotent());
    tested.take(links[0]);
    let queued = tested.submit(idempotent());
    tested.calls.fail_all("closed", &mut Wakers::default());
    assert_eq!(tested.error(sent), (ErrorKind::Disconnected, Ran::Maybe));
    assert_eq!(tested.error(queued), (ErrorKind::Disconnected, Ran::No));
}
