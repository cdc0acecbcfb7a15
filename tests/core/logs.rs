//! The log of servers and clients, read by a subscriber of the whole test program.

use std::sync::Arc;

use rpc_core::{Context, remote};
use tests::{Gate, RawClient, log::Log};
use tracing::Level;

use crate::functions::{add, builder, hold, hold_async};

#[remote]
async fn says(text: String) {
    tracing::info!("async says {text}");
}

#[remote]
fn says_sync(text: &str, #[context] cx: &Context) {
    tracing::info!("blocking says {text}, {}", cx.function());
}

#[remote]
fn quiet(n: u32) -> u32 {
    n
}

#[remote]
fn logs_panic() {
    panic!("logged");
}

#[tokio::test]
async fn logs_of_functions_nest_in_the_span_of_their_call() {
    let log = Log::begin(Level::INFO);
    let server = builder(&Arc::default()).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    says::call(&client, "hello".to_owned()).await.unwrap();
    says_sync::call(&client, "hello").await.unwrap();
    for (text, function) in [("async says hello", "says"), ("blocking says hello", "says_sync")] {
        let line = log.line(text).await;
        let (span, method) = (line.find(" rpc.server{"), format!("rpc.method=\"{function}\"}}"));
        assert!(span.is_some() && line.contains(&method), "{line:?}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn healthy_server_writes_nothing_per_call() {
    let log = Log::begin(Level::INFO);
    let server = builder(&Arc::default()).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    for n in 0..100 {
        assert_eq!(quiet::call(&client, n).await.unwrap(), n);
    }
    let lines = log.lines("quiet");
    assert!(lines.iter().all(|line| line.contains("serving")), "{lines:#?}");
    server.shutdown().await;
}

#[tokio::test]
async fn troubles_are_written_once_a_second() {
    let log = Log::begin(Level::INFO);
    let gate: Arc<Gate> = Arc::default();
    let small = builder(&gate).max_in_flight(1).workers(1);
    let server = small.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    logs_panic::call(&client).await.unwrap_err();
    client.call_dynamic::<()>("logs_unknown", ()).await.unwrap_err();
    let mut raw = RawClient::connect(server.endpoint()).await;
    raw.ask(b"nonsense").await;
    raw.ask(b"\x94\x00\x07\xa5quiet\x91\xa1x").await;
    raw.send(&[b"", b"\x94\x00\x01\xa4hold\x90"]).await;
    gate.entered(1).await;
    for _ in 0..100 {
        raw.ask(b"\x94\x00\x07\xaahold_async\x90").await;
    }
    for (with, level) in [
        ("a remote function panicked function=\"logs_panic\"", "ERROR"),
        ("function=\"logs_unknown\" code=\"unknown_function\"", "WARN"),
        ("code=\"bad_request\" reason=\"the body is no MessagePack array\"", "WARN"),
        ("function=\"quiet\" code=\"bad_arguments\"", "WARN"),
        ("function=\"hold_async\" code=\"overloaded\"", "WARN"),
    ] {
        let line = log.line(with).await;
        assert!(line.contains(level), "{line}");
    }
    let overloaded = log.lines("function=\"hold_async\" code=\"overloaded\"").len();
    assert!((1..20).contains(&overloaded), "{overloaded} lines for 100 refusals");
    gate.open();
    let _ = (hold::call, hold_async::call);
    server.shutdown().await;
}

#[tokio::test]
async fn planned_leave_of_a_server_is_no_warning() {
    let log = Log::begin(Level::INFO);
    let server = builder(&Arc::default()).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let endpoint = server.endpoint().to_owned();
    let client = tests::client().connect(&*endpoint).await.unwrap();
    assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
    server.shutdown().await;
    let line = log.line(&format!("the server has left endpoint=\"{endpoint}\"")).await;
    assert!(line.contains("INFO"), "{line}");
    assert!(log.lines(&endpoint).iter().all(|line| !line.contains("WARN")));
}

#[tokio::test]
async fn client_that_cannot_connect_says_why() {
    let log = Log::begin(Level::INFO);
    let endpoint = format!("inproc://{}", tests::unique());
    let client = tests::client().connect_lazy(&*endpoint).unwrap();
    let line =
        log.line(&format!("cannot connect, and goes on trying endpoint=\"{endpoint}\"")).await;
    assert!(line.contains("INFO") && line.contains("nothing listens there"), "{line}");
    client.close().await;
}

#[tokio::test]
async fn server_that_strangers_reach_warns() {
    let log = Log::begin(Level::INFO);
    let server = builder(&Arc::default()).bind("tcp://0.0.0.0:0").await.unwrap();
    let line = log.line(&format!("endpoint=\"{}\"", server.endpoint())).await;
    assert!(line.contains("WARN") && line.contains("ServerBuilder::curve"), "{line}");
    let local = builder(&Arc::default()).bind("tcp://127.0.0.1:0").await.unwrap();
    assert!(log.lines(&format!("endpoint=\"{}\"", local.endpoint())).is_empty());
}
