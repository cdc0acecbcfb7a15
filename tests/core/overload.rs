//! More load than a server or a client accepts at once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rpc_core::{Client, ClientBuilder, ErrorKind, Ran, ServerHandle, WhenFull, remote};
use tests::{Gate, PATIENCE, RawServer, soon, unique};

use crate::functions::{add, builder, echo, hold, hold_async, note, noted};

/// A client that sends every call at once, so that the server refuses what it does not take.
fn impatient() -> ClientBuilder {
    tests::client().when_full(WhenFull::Fail)
}

#[tokio::test]
async fn server_refuses_calls_over_max_in_flight() {
    let gate: Arc<Gate> = Arc::default();
    let asked = [format!("inproc://{}", unique()), "tcp://127.0.0.1:0".to_owned()];
    let server = builder(&gate).max_in_flight(3).bind(asked).await.unwrap().spawn().unwrap();
    let here = impatient().connect(&server.endpoints()[0]).await.unwrap();
    let there = impatient().connect(&server.endpoints()[1]).await.unwrap();
    let calls = [&here, &there, &there].map(|client| tokio::spawn(hold_async::call(client)));
    gate.entered(3).await;
    for client in [&here, &there] {
        let error = hold_async::call(client).retries(0).await.unwrap_err();
        assert_eq!((error.kind(), error.ran()), (ErrorKind::Overloaded, Ran::No));
        assert_eq!(add::call(client, 1, 2).await.unwrap(), 3, "inline functions do not count");
    }
    gate.open();
    for call in calls {
        assert!(call.await.unwrap().unwrap());
    }
    server.shutdown().await;
}

#[tokio::test]
async fn server_refuses_calls_over_max_waiting() {
    let gate: Arc<Gate> = Arc::default();
    let bound = builder(&gate).max_waiting(4).bind(format!("inproc://{}", unique())).await.unwrap();
    let server = bound.spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let running = [tokio::spawn(hold::call(&client)), tokio::spawn(hold::call(&client))];
    gate.entered(2).await;
    let waiting: Vec<_> = (0..3).map(|_| tokio::spawn(hold::call(&client))).collect();
    // The server reads the ping after the calls that were sent before it.
    tokio::task::yield_now().await;
    client.ping().await.unwrap();
    let error = hold::call(&client).retries(0).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Overloaded, Ran::No));
    assert!(error.retry_after().is_some(), "{error}");
    // One client may use all of the queue except for a reserve, so another client still finds
    // capacity.
    let other = tests::client().connect(server.endpoint()).await.unwrap();
    let fits = tokio::spawn(hold::call(&other));
    tokio::task::yield_now().await;
    other.ping().await.unwrap();
    assert!(!fits.is_finished());
    gate.open();
    for call in running.into_iter().chain(waiting).chain([fits]) {
        assert!(call.await.unwrap().unwrap());
    }
    server.shutdown().await;
}

#[tokio::test]
async fn client_refuses_calls_over_max_in_flight() {
    let gate: Arc<Gate> = Arc::default();
    let server =
        builder(&gate).bind(format!("inproc://{}", unique())).await.unwrap().spawn().unwrap();
    let limited = tests::client().max_in_flight(2).when_full(WhenFull::Fail);
    let client = limited.connect(server.endpoint()).await.unwrap();
    let calls = [tokio::spawn(hold_async::call(&client)), tokio::spawn(hold_async::call(&client))];
    gate.entered(2).await;
    let error = add::call(&client, 1, 2).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Overloaded, Ran::No));
    assert!(error.message().starts_with("2 calls with "), "{error}");
    gate.open();
    for call in calls {
        assert!(call.await.unwrap().unwrap());
    }
    assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
    server.shutdown().await;
}

#[tokio::test]
async fn idle_workers_accept_calls_without_a_queue() {
    let gate: Arc<Gate> = Arc::default();
    let bound = builder(&gate).max_waiting(0).bind(format!("inproc://{}", unique())).await.unwrap();
    let server = bound.spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let mut running = Vec::new();
    while running.len() < 2 {
        let mut call = tokio::spawn(hold::call(&client));
        tokio::select! {
            () = gate.entered(1) => running.push(call),
            // The worker has started, but does not wait for work yet.
            refused = &mut call => assert_eq!(refused.unwrap().unwrap_err().kind(), ErrorKind::Overloaded),
        }
    }
    let error = hold::call(&client).retries(0).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Overloaded, Ran::No));
    gate.open();
    for call in running {
        assert!(call.await.unwrap().unwrap());
    }
    server.shutdown().await;
}

#[tokio::test]
async fn greedy_client_does_not_delay_others() {
    let gate: Arc<Gate> = Arc::default();
    let bound = builder(&gate).workers(1).bind(format!("inproc://{}", unique())).await.unwrap();
    let server = bound.spawn().unwrap();
    let greedy = tests::client().connect(server.endpoint()).await.unwrap();
    let modest = tests::client().connect(server.endpoint()).await.unwrap();
    let running = tokio::spawn(hold::call(&greedy));
    gate.entered(1).await;
    // A single task sends all of these calls when it is first polled.
    let calls = (0..1_000).map(|_| note::call(&greedy, "greedy".to_owned()));
    let many = tokio::spawn(futures_util::future::join_all(calls.collect::<Vec<_>>()));
    tokio::task::yield_now().await;
    greedy.ping().await.unwrap();
    let one = note::call(&modest, "modest".to_owned());
    let open = async {
        // The ping is answered only after the preceding call has been queued.
        modest.ping().await.unwrap();
        gate.open();
    };
    let (one, ()) = soon("the call", async { tokio::join!(biased; one, open) }).await;
    one.unwrap();
    assert!(running.await.unwrap().unwrap());
    for call in soon("the other's calls", many).await.unwrap() {
        call.unwrap();
    }
    // The notes are in the order in which the only worker ran the calls.
    let order = noted::call(&modest).await.unwrap();
    let at = order.iter().position(|name| name == "modest").unwrap();
    assert!(at <= 1, "{at} of the other's came before it");
    server.shutdown().await;
}

#[tokio::test]
async fn server_refuses_over_max_bytes_in_flight() {
    let gate: Arc<Gate> = Arc::default();
    let few = builder(&gate).max_bytes_in_flight(0).max_message_size(100_000);
    let server = few.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = impatient().connect(server.endpoint()).await.unwrap();
    let running = tokio::spawn(hold_bytes::call(&client, vec![0; 90_000]));
    gate.entered(1).await;
    let error = hold_bytes::call(&client, vec![0; 20_000]).retries(0).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Overloaded, Ran::No));
    assert!(error.message().contains("bytes"), "{error}");
    gate.open();
    assert!(running.await.unwrap().unwrap());
    assert!(hold_bytes::call(&client, vec![0; 90_000]).await.unwrap(), "there is room again");
    server.shutdown().await;
}

#[remote]
fn hold_bytes(#[state] gate: &Gate, data: Vec<u8>) -> bool {
    let _inside = gate.enter();
    !data.is_empty() && gate.pass(|| false)
}

#[remote]
async fn hold_and_give(#[state] gate: Arc<Gate>, bytes: usize) -> Bytes {
    let _inside = gate.enter();
    gate.pass_async().await;
    Bytes::from(vec![7; bytes])
}

#[tokio::test]
async fn reading_client_gets_every_reply_of_a_burst() {
    const CALLS: u32 = 16_000;
    for bytes in [0, 4_096] {
        let gate: Arc<Gate> = Arc::default();
        // The limit is so high that a single client may have nearly all of these calls in flight.
        let many = builder(&gate).max_in_flight(2 * CALLS as usize + 1);
        let server = many.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
        let client = tests::client().connect(server.endpoint()).await.unwrap();
        let calls: Vec<_> =
            (0..CALLS).map(|_| tokio::spawn(hold_and_give::call(&client, bytes))).collect();
        gate.entered(CALLS).await;
        gate.open();
        for call in calls {
            assert_eq!(soon("a reply", call).await.unwrap().unwrap().len(), bytes);
        }
        server.shutdown().await;
    }
}

#[tokio::test]
async fn calls_beyond_the_window_wait_in_order() {
    let gate: Arc<Gate> = Arc::default();
    gate.open();
    let bound =
        builder(&gate).workers(1).max_in_flight(40).bind("tcp://127.0.0.1:0").await.unwrap();
    let server = bound.spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let name = |n: usize| format!("{n:04}");
    let calls: Vec<_> = (0..2_000).map(|n| note::call(&client, name(n))).collect();
    for result in soon("the calls", futures_util::future::join_all(calls)).await {
        result.unwrap();
    }
    assert_eq!(noted::call(&client).await.unwrap(), (0..2_000).map(name).collect::<Vec<_>>());
    let status = client.status();
    assert_eq!(status.retries, 0);
    assert!(status.endpoints[0].window.is_some_and(|calls| calls < 40), "{status:?}");
    server.shutdown().await;
}

#[tokio::test]
async fn many_bytes_wait_for_the_window() {
    let gate: Arc<Gate> = Arc::default();
    let bound = builder(&gate).max_bytes_in_flight(4 << 20).max_message_size(1 << 20);
    let server = bound.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let data = vec![7; 600 << 10];
    let calls: Vec<_> = (0..40).map(|_| echo::call(&client, data.clone().into())).collect();
    for result in soon("the calls", futures_util::future::join_all(calls)).await {
        assert_eq!(result.unwrap(), data);
    }
    assert_eq!(client.status().retries, 0);
    server.shutdown().await;
}

#[tokio::test]
async fn clients_that_come_and_go_share_a_server() {
    const CALLS: usize = 500;
    let gate: Arc<Gate> = Arc::default();
    let bound = builder(&gate).max_in_flight(100).bind("tcp://127.0.0.1:0").await.unwrap();
    let server = bound.spawn().unwrap();
    let connect = || tests::client().connect(server.endpoint());
    let flood = |client: &Client| {
        let calls: Vec<_> = (0..CALLS).map(|_| hold_async::call(client)).collect();
        tokio::spawn(futures_util::future::join_all(calls))
    };
    let (first, leaves) = (connect().await.unwrap(), connect().await.unwrap());
    let (of_first, of_leaving) = (flood(&first), flood(&leaves));
    gate.entered(90).await;
    // A client that leaves makes room, and a newcomer has its part at once. A few calls may be
    // refused and retried meanwhile, because the functions of the client that left end last.
    of_leaving.abort();
    leaves.close().await;
    let second = connect().await.unwrap();
    let of_second = flood(&second);
    gate.entered(10).await;
    gate.open();
    for calls in [of_first, of_second] {
        for result in soon("the calls", calls).await.unwrap() {
            assert!(result.unwrap());
        }
    }
    server.shutdown().await;
}

#[tokio::test]
async fn servers_have_windows_of_their_own() {
    let gate: Arc<Gate> = Arc::default();
    let mut servers = Vec::new();
    for _ in 0..2 {
        let bound = builder(&gate).max_in_flight(33).bind("tcp://127.0.0.1:0").await.unwrap();
        servers.push(bound.spawn().unwrap());
    }
    let endpoints: Vec<_> = servers.iter().map(ServerHandle::endpoint).collect();
    let client = tests::client().connect(endpoints).await.unwrap();
    let connected = |client: &Client| {
        client.status().endpoints.iter().all(|endpoint| endpoint.window.is_some())
    };
    while !connected(&client) {
        tokio::task::yield_now().await;
    }
    let calls: Vec<_> = (0..500).map(|_| hold_async::call(&client)).collect();
    let calls = tokio::spawn(futures_util::future::join_all(calls));
    // Both servers have as many calls as each takes.
    gate.entered(60).await;
    let status = client.status();
    assert_eq!(
        status.endpoints.iter().map(|endpoint| endpoint.calls).collect::<Vec<_>>(),
        [30, 30]
    );
    assert_eq!(status.waiting, 440);
    gate.open();
    for result in soon("the calls", calls).await.unwrap() {
        assert!(result.unwrap());
    }
    assert_eq!(client.status().retries, 0);
    for server in servers {
        server.shutdown().await;
    }
}

#[tokio::test]
async fn client_waits_while_its_server_reads_nothing() {
    let mut server = RawServer::bind().await;
    let client = tests::client().connect_lazy(&server.endpoint).unwrap();
    let [identity, _, hello] = server.recv().await;
    server.send(&identity, &[b"\x94\x01", &hello[2..7], b"\xa7unknown\xc0"].concat()).await;
    // The queues of the engine and of the operating system become full at some point. From then on
    // the client accepts nothing more, and it loses nothing.
    let text = "x".repeat(1_000);
    let mut sent = 0;
    let error = loop {
        match note::notify(&client, text.clone()).timeout(Duration::from_secs(1)).await {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 500_000, "there is no bound");
    };
    assert_eq!(
        (error.kind(), error.ran()),
        (ErrorKind::DeadlineExceeded, Ran::Maybe),
        "after {sent}"
    );
    for _ in 0..sent {
        let [_, _, body] = server.recv().await;
        assert!(body.len() > 1_000);
    }
    let later = note::notify(&client, text).timeout(PATIENCE).await;
    later.unwrap();
}
