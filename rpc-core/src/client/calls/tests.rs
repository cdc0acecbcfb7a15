//! Calls without sockets, with a clock that the test sets.

mod queues;

use std::time::Duration;

use super::*;
use crate::{
    client::balancer::{
        Link,
        tests::{endpoint, peer},
    },
    protocol::{
        batch,
        control::{self, PeerInfo},
        outgoing::EncodedArgs,
        request::{self, ClientMessage},
        response,
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// The calls of a client, and the time.
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
            (0..endpoints).map(|index| endpoint(&format!("place-{index}"))).collect();
        let mut calls = Calls::new(capacity, fastrand::Rng::with_seed(7));
        endpoints.iter().for_each(|endpoint| calls.insert_endpoint(endpoint));
        Self { calls, endpoints, now: Instant::now(), wakers: Wakers::default() }
    }

    /// Makes a client with a link to each endpoint, each of a server of its own.
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
        self.submit_call(NewCall { message, kind: CallKind::Request, policy, deadline })
    }

    fn submit_call(&mut self, call: NewCall) -> Result<MsgId, RpcError> {
        self.calls.submit(call, Waker::noop(), self.now, &mut self.wakers)
    }

    /// Returns the messages that are sent on a link now, alone or in batches.
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
        self.calls.poll_transmit(link, max, self.now, waker, &mut out, &mut self.wakers);
        out
    }

    /// Hands in a reply. Returns true if it ends the call.
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

    /// Lets time pass until something is due, and does it.
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

/// A peer that speaks plain MessagePack-RPC.
fn plain_peer() -> PeerInfo {
    control::read_server_hello(None, 1_000)
}

fn plain() -> CallPolicy {
    CallPolicy { idempotent: false, retries: u32::MAX, fail_fast: false, key: None }
}

fn idempotent() -> CallPolicy {
    CallPolicy { idempotent: true, ..plain() }
}

/// The ids of the requests in these bodies.
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
    CallPolicy { key: Some(Bytes::from_static(b"once")), ..plain() }
}

fn fail_fast() -> CallPolicy {
    CallPolicy { fail_fast: true, ..plain() }
}

#[test]
fn a_call_is_sent_once_and_completed_once() {
    let (mut tested, links) = Tested::linked(1);
    let id = tested.submit(plain());
    assert_eq!(tested.take(links[0]).len(), 1);
    assert!(tested.take(links[0]).is_empty());
    assert!(tested.outcome(id).is_none());
    assert!(tested.reply(links[0], id, Bytes::from_static(b"1")));
    assert!(!tested.reply(links[0], id, Bytes::from_static(b"2")));
    assert_eq!(tested.outcome(id).unwrap().unwrap().body, "1");
    assert_eq!(tested.find(links[0]).sent, 0);
    assert_eq!((tested.calls.capacity.calls, tested.calls.capacity.bytes), (0, 0));
}

#[test]
fn replies_that_no_call_waits_for_are_ignored() {
    let (mut tested, links) = Tested::linked(2);
    assert!(!tested.reply(links[0], MsgId(7), Bytes::new()));
    let id = tested.submit(plain());
    // A reply to what was not sent yet cannot be its reply.
    assert!(!tested.reply(links[0], id, Bytes::new()));
    let sent_on = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    // Nor can one that came from elsewhere.
    assert!(!tested.reply(links[1 - sent_on], id, Bytes::new()));
    assert!(tested.outcome(id).is_none());
}

#[test]
fn a_call_waits_for_a_link() {
    let mut tested = Tested::new(1);
    let id = tested.submit(plain());
    tested.link_failed(0, "nobody is there");
    assert!(tested.outcome(id).is_none());
    let link = tested.link(0, peer("one"));
    assert_eq!(tested.take(link).len(), 1);
}

#[test]
fn a_call_that_fails_fast_waits_for_the_first_attempt_only() {
    let mut tested = Tested::new(2);
    let early = tested.submit(fail_fast());
    tested.link_failed(0, "refused");
    assert!(tested.outcome(early).is_none(), "the other may still answer");
    tested.link_failed(1, "no route");
    let error = tested.outcome(early).unwrap().unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::No));
    assert_eq!(
        format!("{error:#}"),
        "place-0, place-1: there is no connection: place-0: refused; place-1: no route"
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
fn what_was_not_sent_goes_elsewhere_when_a_link_is_lost() {
    let (mut tested, links) = Tested::linked(2);
    let ids: Vec<_> = (0..6).map(|_| tested.submit(plain())).collect();
    tested.lose(links[0]);
    assert_eq!(tested.take(links[1]).len(), 6);
    assert!(ids.into_iter().all(|id| tested.outcome(id).is_none()));
}

#[test]
fn an_idempotent_call_that_was_lost_is_made_again_elsewhere() {
    let (mut tested, links) = Tested::linked(2);
    let id = tested.submit(idempotent());
    let first = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    tested.lose(links[first]);
    assert!(tested.outcome(id).is_none());
    assert!(tested.take(links[1 - first]).is_empty(), "it rests first");
    tested.pass();
    let bodies = tested.take(links[1 - first]);
    let Ok(ClientMessage::Request(request)) = request::parse(&bodies[0]) else {
        panic!("{bodies:?}")
    };
    assert_eq!(request.id, id);
    assert!(request.timeout.unwrap() < 10 * SECOND, "its time goes on");
    tested.reply(links[1 - first], id, Bytes::from_static(b"1"));
    let reply = tested.outcome(id).unwrap().unwrap();
    assert!(reply.maybe_ran && *reply.endpoint == format!("place-{}", 1 - first));
}

#[test]
fn a_call_that_may_have_run_is_not_made_again_unless_that_is_safe() {
    let (mut tested, links) = Tested::linked(1);
    let id = tested.submit(plain());
    tested.take(links[0]);
    tested.lose(links[0]);
    let error = tested.outcome(id).unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.ran(), error.endpoint()),
        (ErrorKind::Disconnected, Ran::Maybe, "place-0")
    );
}

#[test]
fn a_call_that_never_ran_is_made_again_and_avoids_who_refused_it() {
    for kind in [ErrorKind::Overloaded, ErrorKind::ShuttingDown] {
        let (mut tested, links) = Tested::linked(2);
        let id = tested.submit(plain());
        let first = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
        tested.fail(links[first], id, kind, Ran::No);
        tested.pass();
        assert_eq!(tested.take(links[1 - first]).len(), 1);
    }
}

#[test]
fn who_asks_for_a_pause_is_left_alone_and_another_is_not() {
    let overloaded = || {
        let body = b"\x94\x01\x00\x83\xa4code\xaaoverloaded\xa3ran\xa2no\xaeretry_after_ms\xcd\x03\xe8\xc0";
        response::parse_response(&Bytes::from_static(body)).unwrap().unwrap_err()
    };
    let (mut tested, links) = Tested::linked(2);
    let begin = tested.now;
    let id = tested.submit(plain());
    let first = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    tested.refuse(links[first], id, overloaded());
    tested.pass();
    assert!(tested.now < begin + SECOND / 10);
    assert_eq!(tested.take(links[1 - first]).len(), 1);
    // Now both have asked for a second.
    tested.refuse(links[1 - first], id, overloaded());
    tested.pass();
    assert!(tested.now >= begin + SECOND);
}

#[test]
fn the_truth_is_that_of_all_tries() {
    let (mut tested, links) = Tested::linked(2);
    let id = tested.submit(CallPolicy { retries: 1, ..idempotent() });
    let first = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    tested.lose(links[first]);
    tested.pass();
    tested.take(links[1 - first]);
    tested.fail(links[1 - first], id, ErrorKind::Overloaded, Ran::No);
    assert_eq!(tested.error(id), (ErrorKind::Overloaded, Ran::Maybe));
}

#[test]
fn a_try_that_has_run_is_not_forgotten() {
    // No server of ours says so, but another may.
    let (mut tested, links) = Tested::linked(1);
    let id = tested.submit(CallPolicy { retries: 1, ..idempotent() });
    tested.take(links[0]);
    tested.fail(links[0], id, ErrorKind::Overloaded, Ran::Yes);
    tested.pass();
    tested.take(links[0]);
    tested.fail(links[0], id, ErrorKind::Overloaded, Ran::No);
    assert_eq!(tested.error(id), (ErrorKind::Overloaded, Ran::Maybe));
}

#[test]
fn whatever_a_silent_link_answers_it_is_silent_no_more() {
    let (mut tested, links) = Tested::linked(1);
    tested.calls.balancer.ping(links[0], &mut Wakers::default());
    assert!(tested.find(links[0]).unresponsive);
    // The answer to the ping, which is no call's.
    tested.reply(links[0], MsgId(1_000), Bytes::new());
    assert!(!tested.find(links[0]).unresponsive);
}

#[test]
fn a_retry_that_would_come_too_late_is_not_waited_for() {
    let (mut tested, links) = Tested::linked(1);
    let id = tested.submit(plain());
    tested.take(links[0]);
    tested.now += 9 * SECOND + Duration::from_millis(999);
    tested.fail(links[0], id, ErrorKind::Overloaded, Ran::No);
    assert_eq!(tested.error(id), (ErrorKind::Overloaded, Ran::No));
}

#[test]
fn a_spent_budget_delays_a_retry_and_does_not_fail_it() {
    let (mut tested, links) = Tested::linked(1);
    while tested.calls.budget.withdraw(tested.now).is_ok() {}
    let id = tested.submit(plain());
    tested.take(links[0]);
    tested.fail(links[0], id, ErrorKind::Overloaded, Ran::No);
    tested.now += Duration::from_millis(11);
    tested.handle_timeout();
    assert!(tested.take(links[0]).is_empty(), "it is due, and there is no budget");
    let mut passes = 0;
    while tested.take(links[0]).is_empty() {
        tested.pass();
        passes += 1;
    }
    assert!(passes < 4);
    assert!(tested.outcome(id).is_none());
}

#[test]
fn a_call_with_a_key_is_made_again_on_the_same_server_only() {
    let (mut tested, links) = Tested::linked(2);
    let id = tested.submit(keyed());
    let first = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    tested.lose(links[first]);
    tested.pass();
    assert!(tested.take(links[1 - first]).is_empty(), "another server does not remember");
    // The same process, after the cable was mended.
    let again = tested.link(first, peer(&format!("server-{first}")));
    let bodies = tested.take(again);
    let Ok(ClientMessage::Request(request)) = request::parse(&bodies[0]) else {
        panic!("{bodies:?}")
    };
    assert_eq!((request.id, request.key), (id, Some(&b"once"[..])));
    // Another process, after a restart.
    tested.lose(again);
    tested.pass();
    tested.link(first, peer("replaced"));
    assert_eq!(tested.error(id), (ErrorKind::Disconnected, Ran::Maybe));
}

#[test]
fn a_call_with_a_key_that_never_ran_goes_anywhere() {
    let (mut tested, links) = Tested::linked(2);
    let id = tested.submit(keyed());
    let first = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    tested.fail(links[first], id, ErrorKind::Overloaded, Ran::No);
    tested.pass();
    assert_eq!(tested.take(links[1 - first]).len(), 1);
}

#[test]
fn an_idempotent_call_with_a_key_goes_anywhere() {
    let (mut tested, links) = Tested::linked(2);
    let id = tested.submit(CallPolicy { idempotent: true, ..keyed() });
    let first = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    tested.lose(links[first]);
    tested.pass();
    assert_eq!(tested.take(links[1 - first]).len(), 1);
    assert!(tested.outcome(id).is_none());
}

#[test]
fn small_messages_travel_together_and_in_order() {
    let (mut tested, links) = Tested::linked(1);
    let text = |len| ("x".repeat(len),);
    // As long as what both sides take at most.
    let long = 1_000 - b"\x91\xda..".len() - request::max_head_len("f");
    let lengths = [1, 2, long, 3, 4];
    let ids = lengths.map(|len| tested.submit_args(plain(), &text(len)).unwrap());
    let bodies = tested.take_bodies(links[0], 256);
    let kinds: Vec<_> =
        bodies.iter().map(|body| batch::unpack(body).map(Iterator::count)).collect();
    assert_eq!(kinds, [Some(5)]);
    assert_eq!(sent_ids(&bodies), ids);

    // A single one is no batch, and neither is more than that to a peer that takes none.
    tested.submit(plain());
    assert!(batch::unpack(&tested.take_bodies(links[0], 256)[0]).is_none());
    let mut tested = Tested::new(1);
    let link = tested.link(0, plain_peer());
    let ids = [(); 3].map(|()| tested.submit(plain()));
    let bodies = tested.take_bodies(link, 256);
    assert_eq!(bodies.len(), 3);
    assert_eq!(sent_ids(&bodies), ids);
}

#[test]
fn what_does_not_suit_a_batch_keeps_its_place_in_the_order() {
    let mut tested = Tested::with_capacity(1, Capacity::new(10, 100_000, WhenFull::Wait));
    let link = tested.link(0, PeerInfo { max_message_size: 100_000, ..peer("server") });
    let ids =
        [1, 2, 5_000, 3, 4].map(|len| tested.submit_args(plain(), &("x".repeat(len),)).unwrap());
    let bodies = tested.take_bodies(link, 256);
    let kinds: Vec<_> =
        bodies.iter().map(|body| batch::unpack(body).map(Iterator::count)).collect();
    assert_eq!(kinds, [Some(2), None, Some(2)]);
    assert_eq!(sent_ids(&bodies), ids);
}

#[test]
fn notifications_in_a_batch_are_done_when_the_socket_has_it() {
    let (mut tested, links) = Tested::linked(1);
    let mut ids = Vec::new();
    for kind in [CallKind::Notification, CallKind::Request, CallKind::Notification] {
        let message = EncodedArgs::dynamic("f", &()).finish().unwrap();
        let call = NewCall { message, kind, policy: plain(), deadline: tested.now + SECOND };
        ids.push(tested.submit_call(call).unwrap());
    }
    let out = tested.transmit(links[0], 256);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].notifications, [ids[0], ids[2]]);
}

#[test]
fn a_try_that_follows_one_in_a_batch_has_the_same_params() {
    let (mut tested, links) = Tested::linked(2);
    for link in &links[1..] {
        tested.go_away(*link);
    }
    let ids = [7, 8].map(|n| tested.submit_args(idempotent(), &(n,)).unwrap());
    let first = tested.take(links[0]);
    assert_eq!(first.len(), 2);
    let again = tested.link(0, peer("another"));
    tested.lose(links[0]);
    tested.pass();
    tested.pass();
    let mut second = tested.take(again);
    second.sort_by_key(|body| sent_ids(std::slice::from_ref(body)));
    assert_eq!(sent_ids(&second), ids);
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(first.last(), second.last(), "the argument");
    }
}

#[test]
fn a_plain_peer_is_told_of_no_cancel() {
    let mut tested = Tested::with_capacity(1, Capacity::new(1_000, 1_000_000, WhenFull::Wait));
    let link = tested.link(0, plain_peer());
    let ids: Vec<_> = (0..256).map(|_| tested.submit(plain())).collect();
    assert_eq!(tested.take(link).len(), 256);
    for id in ids {
        tested.cancel(id);
    }
    assert!(!tested.find(link).has_outgoing());
}

#[test]
fn a_plain_peer_remembers_nothing() {
    let mut tested = Tested::new(1);
    let link = tested.link(0, plain_peer());
    let id = tested.submit(keyed());
    tested.take(link);
    tested.lose(link);
    assert_eq!(tested.error(id), (ErrorKind::Disconnected, Ran::Maybe));
}

#[test]
fn a_server_that_leaves_answers_what_it_has_and_gets_nothing_new() {
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
fn a_cancelled_call_is_never_sent_or_its_server_is_told() {
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
    let rests = tested.submit(idempotent());
    tested.take(links[0]);
    tested.fail(links[0], rests, ErrorKind::Overloaded, Ran::No);
    tested.cancel(rests);
    tested.pass();
    assert!(tested.take(links[0]).is_empty());
}

#[test]
fn time_runs_out_with_the_truth_about_having_run() {
    let (mut tested, links) = Tested::linked(1);
    let sent = tested.submit(plain());
    tested.take(links[0]);
    let queued = tested.submit(plain());
    tested.now += 10 * SECOND;
    assert!(tested.take(links[0]).is_empty(), "its time is up");
    tested.handle_timeout();
    assert_eq!(tested.error(sent), (ErrorKind::DeadlineExceeded, Ran::Maybe));
    assert_eq!(tested.error(queued), (ErrorKind::DeadlineExceeded, Ran::No));
    assert_eq!(tested.take(links[0]).len(), 1, "the server's clock may have started later");
    assert_eq!(tested.calls.next_timeout(), None);
}

#[test]
fn a_request_that_is_too_large_for_the_server_is_not_sent() {
    let (mut tested, links) = Tested::linked(1);
    let id = tested.submit_args(plain(), &("x".repeat(1_000),)).unwrap();
    assert!(tested.take(links[0]).is_empty());
    let error = tested.outcome(id).unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { size: 1_000.., limit: 1_000 }), "{error}");
    assert_eq!(error.ran(), Ran::No);
}

#[test]
fn the_end_of_the_client_ends_every_call() {
    let (mut tested, links) = Tested::linked(1);
    let sent = tested.submit(idempotent());
    tested.take(links[0]);
    let queued = tested.submit(idempotent());
    tested.calls.fail_all("closed", &mut Wakers::default());
    assert_eq!(tested.error(sent), (ErrorKind::Disconnected, Ran::Maybe));
    assert_eq!(tested.error(queued), (ErrorKind::Disconnected, Ran::No));
}
