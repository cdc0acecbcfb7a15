//! When a request is acknowledged, and what becomes of one that is not.

use std::time::Duration;

use rpc_core::{CallError, Client, Connectivity, ErrorKind, Ran};
use tests::{
    ledger::Ledger,
    relay::{Cut, From, Mode, Relay},
    resources::open_files,
    served::{self, REFUSED, block_ms, count, double_later, sleep_ms},
    soon,
};
use tokio::task::JoinHandle;

use crate::{BROKER, server, until};

type Counting = JoinHandle<Result<u64, CallError<String>>>;

/// Makes calls with the numbers from 1 to `count`, which take `ms` milliseconds each.
fn spawn_counts(client: &Client, count: u64, ms: u64) -> Vec<Counting> {
    (1..=count).map(|id| tokio::spawn(served::count::call(client, id, ms).into_future())).collect()
}

/// Waits until all calls of [`spawn_counts`] are answered.
async fn answered(calls: Vec<Counting>) {
    for (id, call) in (1..).zip(calls) {
        match soon("a reply", call).await.unwrap() {
            Ok(answer) => assert_eq!(answer, id),
            Err(CallError::Failed(_)) => assert!(id.is_multiple_of(REFUSED)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Returns the endpoint with the address of a relay in place of the broker's.
fn through(relay: &Relay, endpoint: &str) -> String {
    let relay = relay.endpoint().replace("tcp://", "");
    endpoint.replace(&BROKER.address().to_string(), &relay)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn server_killed_between_reply_and_acknowledgement() {
    let (endpoint, ledger) = (BROKER.endpoint(), Ledger::new());
    let relay = Relay::start(BROKER.address()).await;
    let arguments = ["--ledger", ledger.path()];
    let mut first = server(&through(&relay, &endpoint), &arguments);
    let client = Client::connect(&endpoint).await.unwrap();
    let running = tokio::spawn(count::call(&client, 1, 500).into_future());
    until("it runs", async || ledger.executions().contains_key(&1)).await;
    // The reply reaches the broker, and its confirm does not reach the server.
    relay.set(From::Server, Mode::Freeze);
    assert_eq!(soon("the reply", running).await.unwrap().unwrap(), 1);
    first.kill();
    relay.cut(Cut::Reset);
    let _second = server(&endpoint, &arguments);
    until("it runs again", async || ledger.executions() == [(1, 2)].into()).await;
    // The second reply disturbs nobody.
    assert_eq!(double_later::call(&client, 21, 0).await.unwrap(), 42);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn key_makes_it_once_per_server() {
    let (endpoint, ledger) = (BROKER.endpoint(), Ledger::new());
    let relay = Relay::start(BROKER.address()).await;
    let _server = server(&through(&relay, &endpoint), &["--ledger", ledger.path()]);
    let client = Client::connect(&endpoint).await.unwrap();
    let call = |id| count::call(&client, id, 500);
    let keyed = tokio::spawn(call(1).idempotency_key(b"k").into_future());
    let plain = tokio::spawn(call(2).into_future());
    until("both run", async || ledger.executions().len() == 2).await;
    // The server loses its connection: the broker delivers both again, while the first runs end.
    relay.cut(Cut::Reset);
    assert_eq!(soon("the keyed reply", keyed).await.unwrap().unwrap(), 1);
    assert_eq!(soon("the other reply", plain).await.unwrap().unwrap(), 2);
    assert_eq!(ledger.executions(), [(1, 1), (2, 2)].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn what_a_killed_server_holds_goes_to_another() {
    let (endpoint, ledger) = (BROKER.endpoint(), Ledger::new());
    let arguments = ["--ledger", ledger.path()];
    let (mut first, _second) = (server(&endpoint, &arguments), server(&endpoint, &arguments));
    let client = Client::connect(&endpoint).await.unwrap();
    let calls = spawn_counts(&client, 500, 50);
    until("some run", async || !ledger.executions().is_empty()).await;
    first.kill();
    answered(calls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn draining_server_returns_what_it_has_not_begun() {
    let (endpoint, ledger) = (format!("{}&prefetch=100", BROKER.endpoint()), Ledger::new());
    let arguments = ["--ledger", ledger.path()];
    let (mut first, _second) = (server(&endpoint, &arguments), server(&endpoint, &arguments));
    let client = Client::connect(&endpoint).await.unwrap();
    let calls = spawn_counts(&client, 600, 20);
    until("some run", async || ledger.executions().len() > 20).await;
    first.terminate();
    answered(calls).await;
    assert!(first.ended().await.success());
    let executions = ledger.executions();
    assert!(executions.len() == 600 && executions.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn stopped_server_gives_back_what_runs() {
    let (endpoint, ledger) = (BROKER.endpoint(), Ledger::new());
    let arguments = ["--ledger", ledger.path()];
    let mut first = server(&endpoint, &arguments);
    let client = Client::connect(&endpoint).await.unwrap();
    // It takes longer than the server waits for it.
    let call = tokio::spawn(count::call(&client, 1, 12_000).into_future());
    until("it runs", async || ledger.executions().contains_key(&1)).await;
    first.terminate();
    soon("the server ends", first.ended()).await;
    let _second = server(&endpoint, &arguments);
    assert_eq!(soon("the reply", call).await.unwrap().unwrap(), 1);
    assert_eq!(ledger.executions(), [(1, 2)].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn lost_reply_is_told_truthfully() {
    let (endpoint, ledger) = (BROKER.endpoint(), Ledger::new());
    let relay = Relay::start(BROKER.address()).await;
    let _server = server(&endpoint, &["--ledger", ledger.path()]);
    let client = Client::connect(through(&relay, &endpoint)).await.unwrap();
    let counted = tokio::spawn(count::call(&client, 1, 300).into_future());
    let idempotent = tokio::spawn(sleep_ms::call(&client, 300).into_future());
    until("it runs", async || ledger.executions().contains_key(&1)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    relay.cut(Cut::Reset);
    let Err(CallError::Rpc(error)) = soon("the error", counted).await.unwrap() else {
        panic!("its reply is lost")
    };
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::Maybe));
    assert!(error.to_string().contains("the broker has stored the request"), "{error}");
    // A retry would run beside the request that is stored.
    let error = soon("the error", idempotent).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::Maybe));
    assert_eq!(double_later::call(&client, 21, 0).await.unwrap(), 42);
    assert_eq!(ledger.executions(), [(1, 1)].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn reply_to_a_client_that_has_gone_is_dropped() {
    let (endpoint, ledger) = (BROKER.endpoint(), Ledger::new());
    let relay = Relay::start(BROKER.address()).await;
    let _server = server(&endpoint, &["--ledger", ledger.path()]);
    let client = Client::connect(through(&relay, &endpoint)).await.unwrap();
    for id in 1..=50 {
        tokio::spawn(count::call(&client, id, 100).into_future());
    }
    until("they run", async || ledger.executions().len() == 50).await;
    relay.retarget(([127, 0, 0, 2], 1).into());
    relay.cut(Cut::Reset);
    let other = Client::connect(&endpoint).await.unwrap();
    block_ms::call(&other, 200).await.unwrap();
    let queue = endpoint.split_once("?queue=").unwrap().1;
    until("every request is acknowledged", async || {
        let queues = BROKER.ctl(&["list_queues", "name", "messages"]);
        let line = queues.lines().find(|line| line.split('\t').next() == Some(queue)).unwrap();
        line.ends_with("\t0")
    })
    .await;
    assert_eq!(ledger.executions().len(), 50);
    assert!(ledger.executions().values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn silent_connection_is_given_up() {
    let endpoint = format!("{}&heartbeat=1", BROKER.endpoint());
    let (server_relay, client_relay) =
        (Relay::start(BROKER.address()).await, Relay::start(BROKER.address()).await);
    let _server = server(&through(&server_relay, &endpoint), &[]);
    let client = Client::connect(through(&client_relay, &endpoint)).await.unwrap();
    assert_eq!(double_later::call(&client, 21, 0).await.unwrap(), 42);
    client_relay.set_both(Mode::BlackHole);
    until("the client notices", async || {
        client.status().endpoints[0].state != Connectivity::Connected
    })
    .await;
    client_relay.set_both(Mode::Pass);
    client_relay.cut(Cut::Reset);
    assert_eq!(double_later::call(&client, 22, 0).await.unwrap(), 44);
    server_relay.set_both(Mode::BlackHole);
    // The broker and the server give the connection up, and the server makes a new one.
    let call =
        tokio::spawn(double_later::call(&client, 23, 0).timeout(tests::PATIENCE).into_future());
    tokio::time::sleep(Duration::from_secs(5)).await;
    server_relay.set_both(Mode::Pass);
    server_relay.cut(Cut::Reset);
    assert_eq!(soon("the reply", call).await.unwrap().unwrap(), 46);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn lost_connections_leave_no_files_open() {
    let endpoint = BROKER.endpoint();
    let relay = Relay::start(BROKER.address()).await;
    let server = server(&through(&relay, &endpoint), &[]);
    let client = Client::connect(&endpoint).await.unwrap();
    let mut files = Vec::new();
    for n in 0..20 {
        assert_eq!(double_later::call(&client, n, 0).await.unwrap(), 2 * n);
        files.push(open_files(server.pid()));
        relay.cut(Cut::Reset);
    }
    assert!(files[19] <= files[1] + 5, "{files:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn closing_client_waits_until_its_notifications_are_stored() {
    let (endpoint, ledger) = (BROKER.endpoint(), Ledger::new());
    let _server = server(&endpoint, &["--ledger", ledger.path()]);
    let client = Client::connect(&endpoint).await.unwrap();
    let mut notifications: Vec<_> =
        (1..=200).map(|id| count::notify(&client, id, 0).into_future()).collect();
    for notification in &mut notifications {
        assert!(futures_util::poll!(notification).is_pending(), "it begins");
    }
    client.close().await;
    for notification in notifications {
        soon("it is stored", notification).await.unwrap();
    }
    until("all run", async || ledger.executions().len() == 200).await;
}
