//! Tests with Python peers, which use pyzmq and msgpack. The tests run the interpreter that
//! `RPC_TEST_PYTHON` names, or `python3`:
//!
//! ```text
//! python3 -m venv venv && venv/bin/pip install pyzmq msgpack
//! RPC_TEST_PYTHON=$PWD/venv/bin/python cargo test -p tests --test interop -- --ignored
//! ```

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use bytes::Bytes;
use rpc_core::ErrorKind;
use tests::soon;

use crate::functions::{Fixture, add, echo, metadata};

#[path = "../core/functions.rs"]
#[allow(dead_code)] // The module is shared with `core`, which uses all of it.
mod functions;

const NO_PYTHON: &str =
    "the interpreter that RPC_TEST_PYTHON names (a full path), or python3, can be started";

fn python(script: &str) -> Command {
    let interpreter = env::var_os("RPC_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(interpreter);
    command.arg(format!("{}/interop/{script}", env!("CARGO_MANIFEST_DIR")));
    command
}

/// Runs one kind of Python peer against a server of ours.
async fn peer(kind: &'static str) {
    let fixture = Fixture::tcp().await;
    peer_of(kind, fixture.server.endpoint()).await;
    fixture.end().await;
}

async fn peer_of(kind: &'static str, endpoint: &str) {
    let endpoint = endpoint.to_owned();
    let run = move || python("peers.py").args([kind, &endpoint]).output();
    let output = soon(kind, tokio::task::spawn_blocking(run)).await.unwrap().expect(NO_PYTHON);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"ok\n");
}

#[tokio::test]
#[ignore = "needs python3 with pyzmq and msgpack"]
async fn req_socket_works() {
    peer("req").await;
}

#[tokio::test]
#[ignore = "needs python3 with pyzmq and msgpack"]
async fn req_socket_with_correlation_ids_works() {
    peer("req_correlate").await;
}

#[tokio::test]
#[ignore = "needs python3 with pyzmq and msgpack"]
async fn dealer_works_with_and_without_delimiter() {
    peer("dealer").await;
}

#[tokio::test]
#[ignore = "needs python3 with pyzmq and msgpack"]
async fn req_sockets_work_behind_a_proxy() {
    peer("proxy").await;
}

#[tokio::test]
#[ignore = "needs python3 with pyzmq and msgpack"]
async fn sockets_can_come_and_go() {
    peer("many").await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "needs python3 with pyzmq and msgpack"]
async fn req_socket_works_over_an_abstract_socket() {
    let fixture = Fixture::over(&format!("ipc://@{}", tests::unique())).await;
    peer_of("req", fixture.server.endpoint()).await;
    fixture.end().await;
}

#[cfg(feature = "omq")]
#[tokio::test]
#[ignore = "needs python3 with pyzmq and msgpack"]
async fn heartbeat_socket_stays_connected_on_omq() {
    let gate = std::sync::Arc::default();
    let builder = functions::builder(&gate).engine(rpc_core::Engine::Omq);
    let server = builder.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    peer_of("heartbeats", server.endpoint()).await;
    server.shutdown().await;
}

#[tokio::test]
#[ignore = "needs python3 with pyzmq and msgpack"]
async fn metadata_is_sent_and_read() {
    peer("metadata").await;
    let (child, endpoint) = server("router_server.py", "tcp://127.0.0.1:*");
    let client = soon("connecting", tests::client().connect(&endpoint)).await.unwrap();
    let tenant = metadata::call(&client).metadata("tenant", "a").await.unwrap();
    assert_eq!(tenant, ["tenant=a"]);
    client.close().await;
    drop(child);
}

/// A child process that is killed when this value is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[rpc_core::remote]
fn upper(text: &str) -> String;

#[tokio::test]
#[ignore = "needs python3 with pyzmq and msgpack"]
async fn our_client_calls_a_rep_socket() {
    calls_a_rep_socket("tcp://127.0.0.1:*").await;
    #[cfg(target_os = "linux")]
    calls_a_rep_socket(&format!("ipc://@{}", tests::unique())).await;
}

/// Starts a server in Python. Returns it with its endpoint.
fn server(script: &str, endpoint: &str) -> (Killed, String) {
    let child = python(script).arg(endpoint).stdout(Stdio::piped()).spawn().expect(NO_PYTHON);
    let mut child = Killed(child);
    let mut endpoint = String::new();
    BufReader::new(child.0.stdout.take().expect("it is piped")).read_line(&mut endpoint).unwrap();
    (child, endpoint.trim().to_owned())
}

async fn calls_a_rep_socket(endpoint: &str) {
    let (_child, endpoint) = server("rep_server.py", endpoint);
    let client = soon("connecting", tests::client().connect(&endpoint)).await.unwrap();
    assert_eq!(upper::call(&client, "Straße").await.unwrap(), "STRASSE");
    let data = Bytes::from_static(b"\0\xff");
    assert_eq!(echo::call(&client, data.clone()).await.unwrap(), data);
    let mut sums = add::map(&client, (0..500).map(|n| (n, 1))).concurrency(32).ordered();
    for n in 0..500 {
        assert_eq!(sums.next().await.unwrap().1.unwrap(), n + 1);
    }
    let error = client.call_dynamic::<i64>("sub", (1, 2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Remote);
    assert!(error.message().contains("KeyError"), "{error}");
    client.close().await;
}
