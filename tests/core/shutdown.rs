//! Servers that drain and shut down.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rpc_core::{ErrorKind, Ran, ServerHandle, remote};
use tests::{Gate, RawClient, endpoints, soon};
use tokio::{net::TcpStream, sync::oneshot};

use crate::functions::{Fixture, add, builder, hold, hold_async, hold_stubbornly};

#[tokio::test]
async fn running_calls_finish_during_shutdown() {
    for endpoint in endpoints() {
        let Fixture { client, server, gate } = Fixture::over(&endpoint).await;
        let calls = [tokio::spawn(hold::call(&client)), tokio::spawn(hold_async::call(&client))];
        gate.entered(2).await;
        let shutdown = tokio::spawn(server.shutdown());
        gate.open();
        for call in calls {
            assert!(soon("the call is answered", call).await.unwrap().unwrap());
        }
        soon("the server ends", shutdown).await.unwrap();
    }
}

#[remote]
fn hold_and_give_much(#[state] gate: &Gate) -> Bytes {
    let _inside = gate.enter();
    gate.pass(|| false);
    Bytes::from(vec![7; 15 << 20])
}

#[tokio::test]
async fn large_replies_are_sent_before_shutdown() {
    for endpoint in endpoints() {
        let Fixture { client, server, gate } = Fixture::over(&endpoint).await;
        let calls = [(); 2].map(|()| tokio::spawn(hold_and_give_much::call(&client)));
        gate.entered(2).await;
        let shutdown = tokio::spawn(server.shutdown());
        gate.open();
        for call in calls {
            assert_eq!(soon("the call is answered", call).await.unwrap().unwrap().len(), 15 << 20);
        }
        soon("the server ends", shutdown).await.unwrap();
    }
}

#[tokio::test]
async fn draining_server_accepts_no_new_peers() {
    for endpoint in ["tcp://127.0.0.1:0", "tcp://localhost:0"] {
        let Fixture { client, server, gate } = Fixture::over(endpoint).await;
        let call = tokio::spawn(hold::call(&client));
        gate.entered(1).await;
        let address = server.endpoint().strip_prefix("tcp://").unwrap().to_owned();
        let shutdown = tokio::spawn(server.shutdown());
        let refused = async { while TcpStream::connect(&address).await.is_ok() {} };
        soon("it stops listening", refused).await;
        gate.open();
        assert!(soon("the call is answered", call).await.unwrap().unwrap());
        soon("the server ends", shutdown).await.unwrap();
    }
}

#[tokio::test]
async fn draining_server_refuses_and_sends_go_away() {
    let Fixture { client, server, gate } = Fixture::tcp().await;
    let call = tokio::spawn(hold::call(&client));
    gate.entered(1).await;
    let mut raw = RawClient::connect(server.endpoint()).await;
    raw.ask(b"\x94\x00\x01\xa9rpc.hello\x90").await;
    let mut stranger = RawClient::connect(server.endpoint()).await;
    stranger.ask(b"\x94\x00\x01\xa8rpc.ping\x90").await;
    let shutdown = tokio::spawn(server.shutdown());
    assert_eq!(raw.recv().await.pop().unwrap(), &b"\x93\x02\xabrpc.goodbye\x90"[..]);
    // A call of a peer that was told has crossed the goodbye. All others are refused.
    let add = b"\x94\x00\x02\xa3add\x92\x01\x02";
    assert_eq!(raw.ask(add).await, &b"\x94\x01\xce\0\0\0\x02\xc0\x03"[..]);
    let reply = stranger.ask(add).await;
    assert!(reply.windows(13).any(|part| part == b"shutting_down"), "{reply:?}");
    // The server sends go-away to our client as well. Calls that the client has not sent yet wait
    // for the next server until their deadlines.
    let late = add::call(&client, 1, 2).timeout(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(late.ran(), Ran::No, "{late}");
    gate.open();
    assert!(soon("the call is answered", call).await.unwrap().unwrap());
    soon("the server ends", shutdown).await.unwrap();
}

#[tokio::test]
async fn drain_timeout_abandons_running_calls() {
    let gate: Arc<Gate> = Arc::default();
    let builder = builder(&gate).drain_timeout(Duration::from_millis(50));
    let server = builder.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let sync = tokio::spawn(hold_stubbornly::call(&client));
    let asynchronous = tokio::spawn(hold_async::call(&client));
    gate.entered(2).await;
    soon("the server ends", server.shutdown()).await;
    let error = soon("the sync call", sync).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::ShuttingDown, Ran::Yes));
    let error = soon("the async call", asynchronous).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::ShuttingDown, Ran::Yes));
    gate.open();
}

#[tokio::test]
async fn serve_until_ends_with_its_future() {
    let gate: Arc<Gate> = Arc::default();
    let server = builder(&gate).bind("tcp://127.0.0.1:0").await.unwrap();
    let client = tests::client().connect_lazy(server.endpoint()).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve_until(stopped));
    assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
    stop.send(()).unwrap();
    soon("serving ends", serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn calls_wait_between_bind_and_serve() {
    for endpoint in endpoints() {
        let gate: Arc<Gate> = Arc::default();
        let server = builder(&gate).bind(&endpoint).await.unwrap();
        let client = tests::client().connect_lazy(server.endpoint()).unwrap();
        let error = add::call(&client, 1, 2).timeout(Duration::from_millis(30)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        let call = tokio::spawn(add::call(&client, 1, 2));
        let server: ServerHandle = server.spawn().unwrap();
        assert_eq!(soon("the call", call).await.unwrap().unwrap(), 3);
        server.shutdown().await;
    }
}

#[tokio::test]
async fn the_port_is_free_after_shutdown() {
    let Fixture { client, server, gate } = Fixture::tcp().await;
    let endpoint = server.endpoint().to_owned();
    client.close().await;
    server.shutdown().await;
    let server = builder(&gate).bind(&endpoint).await.unwrap().spawn().unwrap();
    let client = tests::client().connect(&endpoint).await.unwrap();
    assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
    server.shutdown().await;
}

#[test]
fn async_call_is_answered_without_its_runtime() {
    let multi_thread = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads start")
    };
    let (servers, callers) = (multi_thread(), multi_thread());
    let Fixture { client, server, gate } = servers.block_on(Fixture::tcp());
    let running = callers.spawn(hold_async::call(&client));
    servers.block_on(gate.entered(1));
    servers.shutdown_background();
    for call in [running, callers.spawn(hold_async::call(&client))] {
        let error = callers.block_on(soon("it is answered", call)).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    }
    assert_eq!(callers.block_on(add::call(&client, 1, 2)).unwrap(), 3);
    callers.block_on(server.shutdown());
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_peer_does_not_block_shutdown() {
    let gate: Arc<Gate> = Arc::default();
    let patient = builder(&gate).drain_timeout(Duration::from_secs(3_600));
    let server = patient.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let mut raw = RawClient::connect(server.endpoint()).await;
    let asking = tokio::spawn(async move {
        loop {
            raw.ask(b"\x94\x00\x01\xa8rpc.ping\x90").await;
        }
    });
    soon("the server ends", server.shutdown()).await;
    asking.abort();
}

#[tokio::test]
async fn draining_server_cancels_a_dropped_call() {
    let Fixture { client, server, gate } = Fixture::tcp().await;
    let call = tokio::spawn(hold_async::call(&client));
    gate.entered(1).await;
    let mut raw = RawClient::connect(server.endpoint()).await;
    raw.ask(b"\x94\x00\x01\xa9rpc.hello\x90").await;
    let shutdown = tokio::spawn(server.shutdown());
    raw.recv().await;
    // A peer that says hello during the drain receives go-away at once.
    raw.send(&[b"", b"\x94\x00\x02\xa9rpc.hello\x91\x81\xa7batches\xc3"]).await;
    raw.recv().await;
    assert_eq!(raw.recv().await[1], &b"\x93\x02\xabrpc.goodbye\x90"[..]);
    call.abort();
    gate.left(1).await;
    soon("the server ends", shutdown).await.unwrap();
}

#[tokio::test]
async fn late_requests_are_answered_until_peers_close() {
    let Fixture { client, server, gate } = Fixture::tcp().await;
    // Our own client disconnects by itself on go-away. This raw client decides when to disconnect.
    let mut raw = RawClient::connect(server.endpoint()).await;
    raw.ask(b"\x94\x00\x01\xa9rpc.hello\x90").await;
    let shutdown = tokio::spawn(server.shutdown());
    assert_eq!(raw.recv().await[1], &b"\x93\x02\xabrpc.goodbye\x90"[..]);
    // No call runs, and this loop takes many times as long as the short grace period for peers that
    // never said hello.
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_millis(200) {
        let reply = raw.ask(b"\x94\x00\x02\xa3add\x92\x01\x02").await;
        assert_eq!(reply, &b"\x94\x01\xce\0\0\0\x02\xc0\x03"[..]);
    }
    let left = Instant::now();
    drop(raw);
    soon("the server ends", shutdown).await.unwrap();
    assert!(left.elapsed() < Duration::from_millis(500), "{:?}", left.elapsed());
    drop((client, gate));
}

#[tokio::test]
async fn lingering_client_delays_shutdown_one_second() {
    let gate: Arc<Gate> = Arc::default();
    let patient = builder(&gate).drain_timeout(Duration::from_secs(3_600));
    let server = patient.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let mut raw = RawClient::connect(server.endpoint()).await;
    raw.ask(b"\x94\x00\x01\xa9rpc.hello\x90").await;
    soon("the server ends", server.shutdown()).await;
}

#[tokio::test]
async fn idle_clients_disconnect_on_go_away() {
    for endpoint in endpoints() {
        let Fixture { client, server, gate } = Fixture::over(&endpoint).await;
        assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
        let began = Instant::now();
        soon("the server ends", server.shutdown()).await;
        assert!(began.elapsed() < Duration::from_millis(900), "{endpoint}: {:?}", began.elapsed());
        drop((client, gate));
    }
}
