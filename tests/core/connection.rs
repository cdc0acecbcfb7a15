//! Connecting, losing the connection, and reconnecting.

use std::time::{Duration, Instant};

use rpc_core::{ErrorKind, Ran};
use tests::{PATIENCE, RawServer, endpoints, ipc, soon, unique};
use tokio::net::TcpListener;

use crate::functions::{Fixture, add, builder, hold, hold_async, note, noted};

#[tokio::test]
async fn a_malformed_endpoint_is_refused_at_once() {
    for endpoint in ["", "localhost:5555", "tcp://localhost", "http://localhost:1", "tcp://*:5555"]
    {
        let error = tests::client().connect(endpoint).await.unwrap_err();
        assert_eq!((error.kind(), error.ran()), (ErrorKind::InvalidEndpoint, Ran::No));
        assert_eq!(error.endpoint(), endpoint);
        assert_eq!(
            tests::client().connect_lazy(endpoint).unwrap_err().kind(),
            ErrorKind::InvalidEndpoint
        );
    }
}

#[tokio::test]
async fn connect_without_server_times_out_with_reason() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed_port = free.local_addr().unwrap();
    drop(free);
    let nobody = [format!("tcp://{closed_port}"), ipc(), format!("inproc://{}", unique())];
    for endpoint in nobody {
        let timeout = Duration::from_secs(1);
        let started = Instant::now();
        let connect = tests::client().connect_timeout(timeout).connect(&endpoint);
        let error = soon("connecting to nobody", connect).await.unwrap_err();
        assert!(started.elapsed() < PATIENCE / 4, "{endpoint}: {:?}", started.elapsed());
        assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::No));
        let text = format!("{error:#}");
        assert!(text.contains("no server answered within 1s: "), "{text}");
        let reason = ["refused", "No such file", "nothing listens there"];
        assert!(reason.iter().any(|reason| text.contains(reason)), "{text}");
    }
}

#[tokio::test]
async fn connect_to_a_non_zeromq_port_fails() {
    let unresponsive = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("tcp://{}", unresponsive.local_addr().unwrap());
    let connect = tests::client().connect_timeout(Duration::from_millis(400)).connect(&endpoint);
    let error = soon("connecting to an unresponsive port", connect).await.unwrap_err();
    assert!(format!("{error:#}").contains("does not answer as ZeroMQ"), "{error}");
}

#[tokio::test]
async fn connect_to_an_unresponsive_router_fails() {
    let unresponsive = RawServer::bind().await;
    let connect =
        tests::client().connect_timeout(Duration::from_millis(300)).connect(&unresponsive.endpoint);
    let error = soon("connecting to an unresponsive peer", connect).await.unwrap_err();
    assert!(format!("{error:#}").contains("did not answer in time"), "{error}");
}

#[tokio::test]
async fn client_waits_for_a_server_that_starts_later() {
    for endpoint in [ipc(), format!("inproc://{}", unique())] {
        let connecting = tests::client().connect(&endpoint);
        let lazy = tests::client().connect_lazy(&endpoint).unwrap();
        let early = tokio::spawn(add::call(&lazy, 1, 2));
        let server =
            builder(&std::sync::Arc::default()).bind(&endpoint).await.unwrap().spawn().unwrap();
        let client = soon("connecting", connecting).await.unwrap();
        assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
        assert_eq!(soon("the early call", early).await.unwrap().unwrap(), 3);
        server.shutdown().await;
    }
}

#[tokio::test]
async fn unsent_call_ends_at_its_deadline_unrun() {
    let lazy = tests::client().connect_lazy(format!("inproc://{}", unique())).unwrap();
    let error = add::call(&lazy, 1, 2).timeout(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::DeadlineExceeded, Ran::No));
    assert!(format!("{error:#}").contains("nothing listens there"), "{error:#}");
    let error = add::notify(&lazy, 1, 2).timeout(Duration::from_millis(30)).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::DeadlineExceeded, Ran::No));
}

#[tokio::test]
async fn lost_server_ends_calls_and_client_reconnects() {
    for endpoint in [ipc(), format!("inproc://{}", unique())] {
        let fixture = Fixture::over(&endpoint).await;
        let calls = [
            tokio::spawn(hold_async::call(&fixture.client)),
            tokio::spawn(hold_async::call(&fixture.client)),
        ];
        fixture.gate.entered(2).await;
        drop(fixture.server);
        for call in calls {
            let error = soon("the call ends with the server", call).await.unwrap().unwrap_err();
            // A server that stops may still report that it dropped the function.
            let truths =
                [(ErrorKind::Disconnected, Ran::Maybe), (ErrorKind::ShuttingDown, Ran::Yes)];
            assert!(truths.contains(&(error.kind(), error.ran())), "{error}");
        }
        let again = async {
            loop {
                match builder(&fixture.gate).bind(&endpoint).await {
                    Ok(server) => return server.spawn().unwrap(),
                    // The old server has not released the endpoint yet.
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let server = soon("binding again", again).await;
        let again = async {
            loop {
                match add::call(&fixture.client, 1, 2).await {
                    Ok(sum) => return sum,
                    // The client reconnected to the old server just before that server ended.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}"),
                }
            }
        };
        assert_eq!(soon("calling again", again).await, 3);
        server.shutdown().await;
    }
}

#[tokio::test]
async fn close_sends_notifications_and_ends_calls() {
    let fixture = Fixture::tcp().await;
    let client = tests::client().connect(fixture.server.endpoint()).await.unwrap();
    let other = client.clone();
    let waiting = tokio::spawn(hold::call(&client));
    fixture.gate.entered(1).await;
    for n in 0..100 {
        note::notify(&client, n.to_string()).await.unwrap();
    }
    client.close().await;
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::Maybe));
    let error = add::call(&other, 1, 2).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::ShuttingDown, Ran::No));
    fixture.gate.open();
    let all = async {
        while noted::call(&fixture.client).await.unwrap().len() < 100 {
            tokio::task::yield_now().await;
        }
    };
    soon("every notification runs", all).await;
    fixture.end().await;
}

#[tokio::test]
async fn dropped_client_lets_its_calls_finish() {
    let fixture = Fixture::tcp().await;
    let client = tests::client().connect(fixture.server.endpoint()).await.unwrap();
    let call = hold_async::call(&client);
    drop(client);
    let call = tokio::spawn(call);
    fixture.gate.entered(1).await;
    fixture.gate.open();
    assert!(call.await.unwrap().unwrap());
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_come_and_go() {
    for endpoint in endpoints() {
        let fixture = Fixture::over(&endpoint).await;
        for n in 0..50 {
            let client = tests::client().connect(fixture.server.endpoint()).await.unwrap();
            assert_eq!(add::call(&client, n, 1).await.unwrap(), n + 1);
        }
        fixture.end().await;
    }
}

#[test]
fn calls_end_when_the_runtime_ends() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let servers =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let fixture = servers.block_on(Fixture::tcp());
    let callers = runtime();
    let client = tests::client().use_current_runtime();
    let client =
        callers.block_on(async { client.connect(fixture.server.endpoint()).await }).unwrap();
    drop(callers);
    let error =
        servers.block_on(soon("a call on a dead runtime", add::call(&client, 1, 2))).unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::ShuttingDown, Ran::No));
    servers.block_on(fixture.end());
}

#[test]
fn calls_end_if_runtime_ends_before_connecting() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(async {
        tests::client().use_current_runtime().connect_lazy("tcp://127.0.0.1:1").unwrap()
    });
    drop(runtime);
    let others = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error =
        others.block_on(soon("a call on a dead runtime", add::call(&client, 1, 2))).unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::ShuttingDown, Ran::No));
}

#[tokio::test]
async fn connect_ends_despite_immediate_disconnect() {
    let mut peer = RawServer::bind().await;
    let connect = tests::client().connect_timeout(Duration::from_secs(1)).connect(&peer.endpoint);
    let [identity, _, hello] = peer.recv().await;
    peer.send(&identity, &[b"\x94\x01", &hello[2..7], b"\xa7unknown\xc0"].concat()).await;
    drop(peer);
    let client = soon("connecting", connect).await;
    // The connection may or may not have come up before it was lost. The test only requires that
    // `connect` ends.
    drop(client);
}
