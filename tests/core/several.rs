//! One client and several servers: load balancing, and failover when a server fails.

use std::{sync::Arc, time::Duration};

use rpc_core::{Client, ErrorKind, Ran, ServerHandle, WhenFull, remote};
use tests::{
    Gate, ipc,
    relay::{Cut, Mode, Relay},
    soon, unique,
};

use crate::functions::{Which, add, builder, hold_async, note};

#[remote(inline, idempotent)]
fn which(#[state] which: &Which) -> usize {
    which.0
}

/// A call that waits at the gate and may be made twice.
#[remote(idempotent)]
async fn hold_idempotent(#[state] gate: Arc<Gate>, #[state] which: &Which) -> usize {
    let _inside = gate.enter();
    gate.pass_async().await;
    which.0
}

async fn server(endpoint: &str, number: usize, gate: &Arc<Gate>) -> ServerHandle {
    builder(gate).state(Which(number)).bind(endpoint).await.unwrap().spawn().unwrap()
}

/// Binds the endpoint of a server that has just shut down.
async fn server_again(endpoint: &str, number: usize, gate: &Arc<Gate>) -> ServerHandle {
    let again = async {
        loop {
            match builder(gate).state(Which(number)).bind(endpoint).await {
                Ok(server) => return server.spawn().unwrap(),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    soon("binding again", again).await
}

async fn relay_to(server: &ServerHandle) -> Relay {
    Relay::start(server.endpoint().trim_start_matches("tcp://").parse().unwrap()).await
}

/// Makes calls until every server in `numbers` has answered. Fails if any other server answers.
async fn all_answer(client: &Client, numbers: &[usize]) {
    let all = async {
        let mut missing = numbers.to_vec();
        while !missing.is_empty() {
            let number = which::call(client).await.unwrap();
            assert!(numbers.contains(&number), "{number}");
            missing.retain(|other| *other != number);
        }
    };
    soon("every server gets calls", all).await;
}

#[tokio::test]
async fn calls_are_spread_over_all_servers() {
    let gate: Arc<Gate> = Arc::default();
    let endpoints = ["tcp://127.0.0.1:0".to_owned(), ipc(), format!("inproc://{}", unique())];
    let mut servers = Vec::new();
    for (number, endpoint) in endpoints.iter().enumerate() {
        servers.push(server(endpoint, number, &gate).await);
    }
    let endpoints: Vec<_> = servers.iter().map(|server| server.endpoint().to_owned()).collect();
    let client = tests::client().connect(&endpoints).await.unwrap();
    let names: Vec<_> = client.endpoints().iter().map(ToString::to_string).collect();
    assert_eq!(names, endpoints);
    all_answer(&client, &[0, 1, 2]).await;
    client.close().await;
    for server in servers {
        server.shutdown().await;
    }
}

#[tokio::test]
async fn one_endpoint_that_answers_is_enough() {
    let gate: Arc<Gate> = Arc::default();
    let there = server(&format!("inproc://{}", unique()), 0, &gate).await;
    let nobody = [ipc(), format!("inproc://{}", unique())];
    let endpoints = [&nobody[0], there.endpoint(), &nobody[1]];
    let client = soon("connecting", tests::client().connect(endpoints)).await.unwrap();
    for _ in 0..100 {
        assert_eq!(which::call(&client).await.unwrap(), 0);
    }
    // The client connects to the other servers when they start.
    let later = server(&nobody[0], 1, &gate).await;
    all_answer(&client, &[0, 1]).await;
    there.shutdown().await;
    later.shutdown().await;
}

#[tokio::test]
async fn connect_error_has_a_reason_per_endpoint() {
    let nobody = [ipc(), format!("inproc://{}", unique())];
    let connect = tests::client().connect_timeout(Duration::from_millis(300)).connect(&nobody);
    let error = soon("connecting to nobody", connect).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::No));
    assert_eq!(error.endpoint(), nobody.join(", "));
    let text = format!("{error:#}");
    assert!(nobody.iter().all(|endpoint| text.contains(&format!("{endpoint}: "))), "{text}");
    assert!(text.contains("No such file") && text.contains("nothing listens there"), "{text}");
    assert_eq!(Client::connect([""; 0]).await.unwrap_err().kind(), ErrorKind::InvalidEndpoint);
}

#[tokio::test]
async fn only_idempotent_calls_are_retried_elsewhere() {
    let gate: Arc<Gate> = Arc::default();
    let first = server("tcp://127.0.0.1:0", 0, &gate).await;
    let relay = relay_to(&first).await;
    let client = tests::client().connect([relay.endpoint(), ipc()]).await.unwrap();
    let idempotent = tokio::spawn(hold_idempotent::call(&client));
    let other = tokio::spawn(hold_async::call(&client));
    gate.entered(2).await;
    let second = server(&client.endpoints()[1], 1, &gate).await;
    relay.set_both(Mode::BlackHole);
    relay.cut(Cut::Reset);
    let error = soon("the call that may have run ends", other).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::Maybe));
    assert_eq!(error.endpoint(), relay.endpoint());
    gate.entered(1).await;
    gate.open();
    assert_eq!(soon("the call is made again", idempotent).await.unwrap().unwrap(), 1);
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test]
async fn draining_server_answers_calls_in_flight() {
    let gate: Arc<Gate> = Arc::default();
    let old = server("tcp://127.0.0.1:0", 0, &gate).await;
    let new = server("tcp://127.0.0.1:0", 1, &gate).await;
    let client = tests::client().connect([old.endpoint(), new.endpoint()]).await.unwrap();
    all_answer(&client, &[0, 1]).await;
    let calls: Vec<_> = (0..20).map(|_| tokio::spawn(hold_idempotent::call(&client))).collect();
    gate.entered(20).await;
    let draining = tokio::spawn(old.shutdown());
    // Some may cross the go-away, and run on the old server.
    let gone = async {
        let mut elsewhere = 0;
        while elsewhere < 100 {
            elsewhere = if which::call(&client).await.unwrap() == 1 { elsewhere + 1 } else { 0 };
        }
    };
    soon("calls go elsewhere", gone).await;
    gate.open();
    let mut answered = [0, 0];
    for call in calls {
        answered[call.await.unwrap().unwrap()] += 1;
    }
    assert_eq!(answered[0] + answered[1], 20);
    assert!(answered[0] > 0 && answered[1] > 0, "both had some: {answered:?}");
    assert_eq!(gate.unseen(), 0, "none was made twice");
    soon("the old server ends", draining).await.unwrap();
    new.shutdown().await;
}

#[tokio::test]
async fn successor_serves_while_predecessor_drains() {
    let gate: Arc<Gate> = Arc::default();
    let endpoint = format!("inproc://{}", unique());
    let old = server(&endpoint, 0, &gate).await;
    let client = tests::client().connect(&endpoint).await.unwrap();
    let waiting = tokio::spawn(hold_idempotent::call(&client));
    gate.entered(1).await;
    let draining = tokio::spawn(old.shutdown());
    let new = server_again(&endpoint, 1, &gate).await;
    // The old server still runs a call. The new server does not wait for that call.
    assert_eq!(soon("a new call", which::call(&client)).await.unwrap(), 1);
    gate.open();
    assert_eq!(waiting.await.unwrap().unwrap(), 0);
    soon("the old server ends", draining).await.unwrap();
    new.shutdown().await;
}

#[tokio::test]
async fn draining_servers_per_endpoint_are_limited() {
    const FEW: usize = 4;
    let gate: Arc<Gate> = Arc::default();
    let endpoint = format!("inproc://{}", unique());
    let mut newest = server(&endpoint, 0, &gate).await;
    let client = tests::client().connect(&endpoint).await.unwrap();
    let (mut calls, mut draining) = (Vec::new(), Vec::new());
    for number in 1..=FEW {
        assert_eq!(soon("a call of the newest", which::call(&client)).await.unwrap(), number - 1);
        calls.push(tokio::spawn(hold_async::call(&client)));
        gate.entered(1).await;
        draining.push(tokio::spawn(newest.shutdown()));
        newest = server_again(&endpoint, number, &gate).await;
    }
    let waiting = which::call(&client).timeout(Duration::from_millis(500));
    let error = waiting.await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::DeadlineExceeded, Ran::No));
    gate.open();
    for call in calls {
        assert!(call.await.unwrap().unwrap());
    }
    assert_eq!(soon("a call when one has ended", which::call(&client)).await.unwrap(), FEW);
    for server in draining {
        soon("an old server ends", server).await.unwrap();
    }
    newest.shutdown().await;
}

#[tokio::test]
async fn unresponsive_connection_is_lost() {
    // A frozen connection, a half-open one, and one that was cut without a FIN or RST look the same
    // to the client.
    for mode in [Mode::Freeze, Mode::BlackHole] {
        let gate: Arc<Gate> = Arc::default();
        let first = server("tcp://127.0.0.1:0", 0, &gate).await;
        let second = server("tcp://127.0.0.1:0", 1, &gate).await;
        let relay = relay_to(&first).await;
        let client = tests::client().keepalive_timeout(Duration::from_millis(200));
        let client =
            client.connect([relay.endpoint(), second.endpoint().to_owned()]).await.unwrap();
        all_answer(&client, &[0, 1]).await;
        relay.set_both(mode);
        let calls: Vec<_> = (0..20).map(|_| tokio::spawn(which::call(&client))).collect();
        for call in calls {
            assert_eq!(soon("an idempotent call goes elsewhere", call).await.unwrap().unwrap(), 1);
        }
        relay.set_both(Mode::Pass);
        relay.cut(Cut::Reset);
        all_answer(&client, &[0, 1]).await;
        first.shutdown().await;
        second.shutdown().await;
    }
}

#[tokio::test]
async fn keepalive_timeout_ends_a_call_with_ran_maybe() {
    let gate: Arc<Gate> = Arc::default();
    let server = server("tcp://127.0.0.1:0", 0, &gate).await;
    let relay = relay_to(&server).await;
    let client = tests::client().keepalive_timeout(Duration::from_millis(100));
    let client = client.connect(relay.endpoint()).await.unwrap();
    let call = tokio::spawn(hold_async::call(&client));
    gate.entered(1).await;
    relay.set_both(Mode::BlackHole);
    let error = soon("the keepalive timeout is noticed", call).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::Maybe));
    assert!(format!("{error:#}").contains("has sent nothing for 1"), "{error:#}");
    gate.open();
    server.shutdown().await;
}

#[tokio::test]
async fn keepalive_timeout_fires_after_call_timeout() {
    let gate: Arc<Gate> = Arc::default();
    let server = server("tcp://127.0.0.1:0", 0, &gate).await;
    let relay = relay_to(&server).await;
    let client = tests::client()
        .keepalive_timeout(Duration::from_secs(1))
        .connect(relay.endpoint())
        .await
        .unwrap();
    relay.set_both(Mode::BlackHole);
    // The client checks the connection while this call waits. After that, no call waits any more.
    let error = which::call(&client).timeout(Duration::from_millis(400)).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::DeadlineExceeded, Ran::Maybe));
    let lost = async {
        while !format!("{:?}", client.status()).contains("has sent nothing for 1.") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), lost).await.expect("the connection is lost");
    server.shutdown().await;
}

#[tokio::test]
async fn busy_server_keeps_its_connection() {
    let gate: Arc<Gate> = Arc::default();
    let server = server("tcp://127.0.0.1:0", 0, &gate).await;
    // Long enough for a machine under load, and short enough for many rounds of pings.
    let keepalive_timeout = Duration::from_secs(2);
    let client = tests::client()
        .keepalive_timeout(keepalive_timeout)
        .connect(server.endpoint())
        .await
        .unwrap();
    let call = tokio::spawn(hold_async::call(&client));
    gate.entered(1).await;
    tokio::time::sleep(2 * keepalive_timeout).await;
    assert!(!call.is_finished());
    gate.open();
    assert!(call.await.unwrap().unwrap());
    server.shutdown().await;
}

#[tokio::test]
async fn fail_fast_call_does_not_wait_to_connect() {
    let gate: Arc<Gate> = Arc::default();
    let endpoint = ipc();
    let patient = tests::client().connect_lazy(&endpoint).unwrap();
    let hasty = tests::client().fail_fast().connect_lazy(&endpoint).unwrap();
    let errors = [
        soon("the call", add::call(&patient, 1, 2).fail_fast()).await.unwrap_err(),
        soon("the call", add::call(&hasty, 1, 2)).await.unwrap_err(),
        soon("the notification", note::notify(&hasty, String::new())).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::No));
        assert!(format!("{error:#}").contains("there is no connection: No such file"), "{error:#}");
    }
    let waiting = tokio::spawn(add::call(&patient, 1, 2));
    let server = server(&endpoint, 0, &gate).await;
    assert_eq!(soon("the patient call", waiting).await.unwrap().unwrap(), 3);
    server.shutdown().await;
}

#[tokio::test]
async fn overloaded_calls_are_retried_until_accepted() {
    let gate: Arc<Gate> = Arc::default();
    let small = builder(&gate).max_in_flight(1).bind("tcp://127.0.0.1:0").await.unwrap();
    let server = small.spawn().unwrap();
    let client = tests::client().when_full(WhenFull::Fail);
    let client = client.connect(server.endpoint()).await.unwrap();
    let first = tokio::spawn(hold_async::call(&client));
    gate.entered(1).await;
    let error = hold_async::call(&client).retries(2).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Overloaded, Ran::No));
    let second = tokio::spawn(hold_async::call(&client));
    let error = hold_async::call(&client).timeout(Duration::from_millis(300)).await.unwrap_err();
    // The deadline may pass while the answer to a retry is on its way. Then the call may have run,
    // as far as the client knows.
    let either = [ErrorKind::Overloaded, ErrorKind::DeadlineExceeded];
    assert!(either.contains(&error.kind()), "{error:?}");
    gate.open();
    assert!(first.await.unwrap().unwrap());
    assert!(soon("the second is tried again", second).await.unwrap().unwrap());
    server.shutdown().await;
}
