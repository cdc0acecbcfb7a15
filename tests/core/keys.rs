//! Idempotency keys, tested with peers that send raw bytes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rpc_core::remote;
use tests::{Gate, RawClient, soon, unique};

use crate::functions::builder;

/// The number of times that `count` has run, for each index. Each test uses its own indexes.
static RUNS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

#[remote]
fn count(#[state] gate: &Gate, index: usize) -> u64 {
    let _inside = gate.enter();
    gate.pass(|| false);
    RUNS[index].fetch_add(1, Ordering::Relaxed) + 1
}

/// Builds a request of `count` with the msgid `id` and the idempotency key of `index`.
fn request(id: u8, index: u8) -> Vec<u8> {
    let mut body = b"\x95\x00".to_vec();
    body.push(id);
    body.extend(b"\xa5count\x81\xa3key\xc4\x02k");
    body.extend([index, 0x91, index]);
    body
}

fn contains(body: &[u8], part: &str) -> bool {
    body.windows(part.len()).any(|window| window == part.as_bytes())
}

fn response(id: u8, result: u8) -> Vec<u8> {
    vec![0x94, 1, 0xce, 0, 0, 0, id, 0xc0, result]
}

#[tokio::test]
async fn keyed_retry_gets_the_first_result() {
    let gate: Arc<Gate> = Arc::default();
    let asked = ["tcp://127.0.0.1:0".to_owned(), tests::ipc(), format!("inproc://{}", unique())];
    let server = builder(&gate).bind(asked).await.unwrap().spawn().unwrap();
    let mut lost = RawClient::connect(&server.endpoints()[0]).await;
    lost.send(&[b"", &request(1, 0)]).await;
    gate.entered(1).await;
    drop(lost);
    // One peer retries while the first run is still in progress, over another transport. Another
    // peer retries after the run has ended.
    let mut while_it_runs = RawClient::connect(&server.endpoints()[1]).await;
    while_it_runs.send(&[b"", &request(7, 0)]).await;
    assert_eq!(while_it_runs.ask(b"\x94\x00\x08\xa8rpc.ping\x90").await, response(8, 0xc0));
    gate.open();
    assert_eq!(while_it_runs.recv().await[1], response(7, 1));
    let mut afterwards = RawClient::connect(&server.endpoints()[0]).await;
    assert_eq!(afterwards.ask(&request(9, 0)).await, response(9, 1));
    assert_eq!(RUNS[0].load(Ordering::Relaxed), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn draining_server_answers_keyed_retries() {
    let gate: Arc<Gate> = Arc::default();
    gate.open();
    let server = builder(&gate).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let mut peer = RawClient::connect(server.endpoint()).await;
    peer.ask(b"\x94\x00\x01\xa9rpc.hello\x90").await;
    assert_eq!(peer.ask(&request(1, 1)).await, response(1, 1));
    // A peer without a session is refused new calls at once.
    let mut stranger = RawClient::connect(server.endpoint()).await;
    stranger.ask(b"\x94\x00\x01\xa8rpc.ping\x90").await;
    let shutdown = tokio::spawn(server.shutdown());
    assert!(contains(&peer.recv().await[1], "rpc.goodbye"));
    for peer in [&mut peer, &mut stranger] {
        assert_eq!(peer.ask(&request(2, 1)).await, response(2, 1));
    }
    assert!(contains(&stranger.ask(&request(3, 2)).await, "shutting_down"));
    drop(peer);
    soon("the server ends", shutdown).await.unwrap();
}

#[tokio::test]
async fn invalid_and_reused_keys_are_refused() {
    let gate: Arc<Gate> = Arc::default();
    let server = builder(&gate).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let mut peer = RawClient::connect(server.endpoint()).await;
    let add = |key: &[u8], params: &[u8]| [b"\x95\x00\x07\xa3add\x81\xa3key", key, params].concat();
    assert_eq!(peer.ask(&add(b"\xa1x", b"\x92\x01\x02")).await, response(7, 3));
    for (key, params) in [
        (&b"\xa1x"[..], &b"\x92\x01\x03"[..]),
        (b"\xc4\x01x", b"\x82\xa1a\x01\xa1b\x02"),
        (b"\xa0", b"\x92\x01\x02"),
        (b"\x05", b"\x92\x01\x02"),
    ] {
        let reply = peer.ask(&add(key, params)).await;
        assert!(contains(&reply, "bad_request"), "{key:?} {params:?}: {reply:?}");
    }
    // A call with wrong arguments never ran, so the same key may be used again with the right ones.
    assert!(contains(&peer.ask(&add(b"\xa1y", b"\x91\x01")).await, "bad_arguments"));
    assert_eq!(peer.ask(&add(b"\xa1y", b"\x92\x01\x02")).await, response(7, 3));
    server.shutdown().await;
}

#[tokio::test]
async fn keyed_call_runs_until_its_last_cancel() {
    const HOLD: &[u8] = b"\x95\x00\x07\xaahold_async\x81\xa3key\xa1k\x90";
    const CANCEL: &[u8] = b"\x93\x02\xaarpc.cancel\x91\x07";
    let gate: Arc<Gate> = Arc::default();
    let server = builder(&gate).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let mut lost = RawClient::connect(server.endpoint()).await;
    lost.send(&[b"", HOLD]).await;
    gate.entered(1).await;
    drop(lost);
    let mut first = RawClient::connect(server.endpoint()).await;
    let mut second = RawClient::connect(server.endpoint()).await;
    for peer in [&mut first, &mut second] {
        peer.send(&[b"", HOLD]).await;
        peer.ask(b"\x94\x00\x08\xa8rpc.ping\x90").await;
    }
    assert!(contains(&first.ask(CANCEL).await, "cancelled"));
    assert_eq!(gate.unseen(), 0, "one run");
    assert!(contains(&second.ask(CANCEL).await, "cancelled"));
    // The server may notice the lost connection only now. Until then that connection still counts
    // as a waiting caller, so the function goes on.
    let again = async {
        loop {
            first.send(&[b"", HOLD]).await;
            first.ask(CANCEL).await;
        }
    };
    tokio::select! {
        () = gate.left(1) => {}
        () = again => {}
    }
    // The function had started, so "cancelled" is the recorded outcome of this key: nothing runs
    // again.
    assert!(contains(&second.ask(HOLD).await, "cancelled"));
    assert_eq!(gate.unseen(), 0);
    server.shutdown().await;
}

#[tokio::test]
async fn keyed_call_past_drain_timeout_is_answered() {
    const HOLD: &[u8] = b"\x95\x00\x07\xaahold_async\x81\xa3key\xa1k\x90";
    let gate: Arc<Gate> = Arc::default();
    let hasty = builder(&gate).drain_timeout(std::time::Duration::from_millis(50));
    let server = hasty.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let mut peer = RawClient::connect(server.endpoint()).await;
    peer.send(&[b"", HOLD]).await;
    gate.entered(1).await;
    soon("the server ends", server.shutdown()).await;
    assert!(contains(&peer.recv().await[1], "the server has shut down"));
    gate.left(1).await;
}

#[tokio::test]
async fn request_for_another_process_is_not_run() {
    let gate: Arc<Gate> = Arc::default();
    let server = builder(&gate).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let mut peer = RawClient::connect(server.endpoint()).await;
    let mut request = b"\x95\x00\x01\xa5count\x82\xa3key\xa1k\xa8instance\xa7another".to_vec();
    request.extend([0x91, 3]);
    let reply = peer.ask(&request).await;
    assert!(contains(&reply, "other_instance") && contains(&reply, "no"), "{reply:?}");
    assert_eq!(RUNS[3].load(Ordering::Relaxed), 0);
    server.shutdown().await;
}
