//! Tests of calls within the windows of their servers.

use super::*;
use crate::protocol::control::Window;

fn windowed(calls: usize, bytes: usize) -> PeerInfo {
    PeerInfo { window: Some(Window { number: 0, calls, bytes }), ..peer("one") }
}

/// Takes what is sent on a link now: the requests, and the last report about the window.
fn take(tested: &mut Tested, link: LinkId) -> (Vec<MsgId>, Option<Window>) {
    let (mut ids, mut report) = (Vec::new(), None);
    for body in tested.take(link) {
        match request::parse(&body) {
            Ok(ClientMessage::Request(request)) => ids.push(request.id),
            Ok(ClientMessage::Notification(notification)) => {
                assert_eq!(notification.method, "rpc.window");
                report = control::read_window(&body[notification.params_at..]);
            }
            Err(malformed) => panic!("{malformed:?}"),
        }
    }
    (ids, report)
}

#[test]
fn request_that_does_not_fit_asks_for_a_larger_window() {
    let mut tested = Tested::new(1);
    let link = tested.link(0, windowed(10, 1_000));
    let ids = [800, 800].map(|len| tested.submit_args(plain(), &("x".repeat(len),)).unwrap());
    // In one look, and in one after the first request was sent.
    let (sent, report) = take(&mut tested, link);
    assert_eq!(sent, ids[..1]);
    assert_eq!(report.expect("the second one waits").bytes, 2_048);
    assert_eq!(take(&mut tested, link), (vec![], None), "it was asked for");
    let window = Window { number: 1, calls: 10, bytes: 2_048 };
    tested.calls.handle_window(link, window, tested.now, &mut tested.wakers);
    assert_eq!(take(&mut tested, link).0, ids[1..]);
}

#[test]
fn smaller_window_is_confirmed_only_when_it_is_kept_to() {
    let mut tested = Tested::with_capacity(1, Capacity::new(100, 100_000, WhenFull::Wait));
    let link = tested.link(0, windowed(20, 100_000));
    let ids: Vec<_> = (0..20).map(|_| tested.submit(plain())).collect();
    let smaller = Window { number: 1, calls: 5, bytes: 100_000 };
    tested.calls.handle_window(link, smaller, tested.now, &mut tested.wakers);
    let (sent, report) = take(&mut tested, link);
    assert_eq!(sent, ids[..5], "the queue of the link is longer than the window");
    assert_eq!(report.map(|report| report.number), Some(1));
    // Each reply lets the next one go.
    tested.find(link).sender = Some(Waker::noop().clone());
    tested.reply(link, ids[0], Bytes::from_static(b"1"));
    assert!(tested.find(link).sender.is_none(), "the sender was woken");
    assert_eq!(take(&mut tested, link).0, ids[5..6]);
}

#[test]
fn refusal_and_deadline_make_room() {
    for refused in [true, false] {
        let mut tested = Tested::new(1);
        let link = tested.link(0, windowed(1, 1_000));
        let first = tested.submit(CallPolicy { retries: 0, ..plain() });
        assert_eq!(take(&mut tested, link).0, [first]);
        tested.now += SECOND;
        let second = tested.submit(plain());
        assert_eq!(take(&mut tested, link).0, []);
        if refused {
            tested.fail(link, first, ErrorKind::Remote, Ran::Yes);
        } else {
            tested.now += 9 * SECOND;
            tested.handle_timeout();
        }
        let bodies = tested.take(link);
        let sent = bodies.iter().any(|body| {
            matches!(request::parse(body), Ok(ClientMessage::Request(request)) if request.id == second)
        });
        assert!(sent, "{refused}");
    }
}

#[test]
fn end_of_a_pause_is_waited_for() {
    let mut tested = Tested::new(2);
    let links = [tested.link(0, windowed(1, 1_000)), tested.link(1, windowed(1, 1_000))];
    let overloaded = tested.submit(CallPolicy { retries: 0, ..plain() });
    let on = links.iter().position(|link| !tested.take(*link).is_empty()).unwrap();
    tested.fail(links[on], overloaded, ErrorKind::Overloaded, Ran::No);
    tested.submit(plain());
    assert_eq!(tested.take(links[1 - on]).len(), 1);
    // One server is full, and the other pauses.
    let waits = tested.submit(plain());
    assert!(tested.take(links[on]).is_empty());
    assert!(tested.calls.next_timeout().unwrap() < tested.now + SECOND);
    tested.pass();
    assert_eq!(take(&mut tested, links[on]).0, [waits]);
}

#[test]
fn names_of_parameters_do_not_make_a_request_too_large() {
    static PARAMS: [crate::function::Param; 1] = [crate::function::Param::new("text", "&str")];
    static NAMED: Signature = Signature::new("f", "", &PARAMS);
    let (mut tested, links) = Tested::linked(1);
    let head = request::max_head_len("f");
    for len in 1_000 - head - 20..1_000 - head {
        let message = EncodedArgs::dynamic("f", &("x".repeat(len),)).finish().unwrap();
        let fits = message.len() <= 1_000;
        let call = NewCall {
            message,
            kind: CallKind::Request,
            policy: plain(),
            deadline: tested.now + SECOND,
            signature: &NAMED,
            flows: None,
        };
        let id = tested.submit_call(call).unwrap();
        let bodies = tested.take(links[0]);
        assert_eq!(bodies.len(), usize::from(fits), "{len}");
        assert!(bodies.iter().all(|body| body.len() <= 1_000));
        tested.cancel(id);
        tested.take(links[0]);
    }
}
