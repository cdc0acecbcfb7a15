//! Tests of the table of requests, without a server.

use std::time::Duration;

use super::*;
use crate::{
    outflow::Unread,
    util::fair_share::{Share, SharedLimit},
};

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
        streams: None,
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
    assert_eq!(requests.find_newest(&reply_to("a"), MsgId(1)), Some(a));
    assert_eq!(requests.find_newest(&reply_to("b"), MsgId(1)), Some(twice));
    assert_eq!(requests.find_newest(&reply_to("b"), MsgId(2)), None);
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

#[tokio::test]
async fn async_stream_ends_with_the_table() {
    let task = tokio::spawn(std::future::pending::<()>());
    let share = Share::new(&Arc::new(SharedLimit::new(1_000, 0)));
    let unread = Unread { share, overhead: 0 };
    let outflow = Outflow::new(MsgId(1), 1, 1_000, unread, Box::new(|| {}));
    let mut requests = Requests::new();
    let ticket = requests.insert(request("a", 1, None));
    requests.started(ticket, Started::Task(task.abort_handle()));
    requests.get_mut(ticket).unwrap().streams =
        Some(Box::new(Streams { outflow: Some(outflow), ..Streams::default() }));
    drop(requests);
    assert!(task.await.unwrap_err().is_cancelled());
}
