//! A man in the middle, who can do nothing but let calls fail.

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_core::{Access, ErrorKind};
use tests::{Gate, soon};
use tokio::task::JoinSet;

use crate::{
    Keys, Runs, add,
    mallory::{Frame, Mallory},
    note,
};

/// The calls of each case.
const CALLS: u32 = 24;
/// The number that is only in what the man in the middle makes up.
const FORGED: u32 = 999;
/// The frames of a connection that are changed, one in each run: those of the handshake, and some
/// of the first calls.
const CHANGED: std::ops::Range<usize> = 1..11;

/// Changes the frame `at` of each side on the first two connections, and passes on all others.
fn at(
    at: usize,
    change: impl Fn(Frame) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> impl Fn(Frame) -> Vec<Vec<u8>> + Send + Sync + 'static {
    move |frame| {
        let is_changed = frame.connection < 2 && frame.index == at;
        if is_changed { change(frame) } else { vec![frame.bytes] }
    }
}

/// Makes calls through Mallory, and checks that each ran at most once, with the argument that was
/// sent, and had its own result. Returns the number of those that succeeded.
async fn call_through(
    what: impl Display,
    change: impl Fn(Frame) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> u32 {
    let (mut keys, runs) = (Keys::default(), Arc::<Runs>::default());
    let access = Access::new().allow("alice", keys.public("alice"), ["note"]);
    let server = keys.server(&access).shared_state(Arc::clone(&runs));
    let server = server.shared_state(Arc::<Gate>::default());
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let mallory = Mallory::start(server.endpoint(), change).await;
    let client = keys.client("alice").retries(0).timeout(Duration::from_millis(250));
    let client = client.connect_timeout(Duration::from_millis(400));
    let mut succeeded = 0;
    // A handshake that fails is not repeated at once. What matters is what the server has seen.
    if let Ok(client) = client.connect(&mallory.endpoint).await {
        for number in 0..CALLS {
            if let Ok(result) = note::call(&client, number).await {
                assert_eq!(result, number, "{what}: a reply went to another call");
                succeeded += 1;
            }
        }
        client.close().await;
    }
    server.shutdown().await;
    let mut seen = HashMap::new();
    for number in runs.seen.lock().unwrap().drain(..) {
        *seen.entry(number).or_insert(0) += 1;
    }
    for (number, times) in seen {
        assert!(number < CALLS && times == 1, "{what}: {number} ran {times} times");
    }
    succeeded
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_frames_are_never_delivered() {
    assert_eq!(call_through("nothing is changed", |frame| vec![frame.bytes]).await, CALLS);
    let mut cases = JoinSet::new();
    for index in CHANGED {
        cases.spawn(call_through(format!("frame {index} with a bit flipped"), at(index, flip)));
        let twice = |frame: Frame| vec![frame.bytes.clone(), frame.bytes];
        cases.spawn(call_through(format!("frame {index} twice"), at(index, twice)));
        let plain = |frame: Frame| vec![forged(), frame.bytes];
        let what = format!("a plain message before frame {index}");
        cases.spawn(call_through(what, at(index, plain)));
        let what = format!("the frame before frame {index} after it");
        cases.spawn(call_through(what, again(index)));
    }
    let all = CALLS * u32::try_from(cases.len()).unwrap();
    let succeeded: u32 = cases.join_all().await.into_iter().sum();
    assert!(succeeded < all, "nothing was changed");
}

/// Flips a bit behind the size of a frame.
fn flip(mut frame: Frame) -> Vec<Vec<u8>> {
    let head = if frame.bytes[0] & 2 == 0 { 2 } else { 9 };
    let place = fastrand::usize(head..frame.bytes.len());
    frame.bytes[place] ^= 1 << fastrand::u8(..8);
    vec![frame.bytes]
}

/// Sends the frame before the frame `at` once more, after that.
fn again(at: usize) -> impl Fn(Frame) -> Vec<Vec<u8>> + Send + Sync + 'static {
    let before = Mutex::new(HashMap::new());
    move |frame| {
        let side = (frame.connection, frame.to_server);
        let kept: Option<Vec<u8>> = before.lock().unwrap().insert(side, frame.bytes.clone());
        let kept = kept.filter(|_| frame.connection < 2 && frame.index == at);
        [frame.bytes].into_iter().chain(kept).collect()
    }
}

/// A message that is not encrypted: an empty frame, and a call.
fn forged() -> Vec<u8> {
    let body = rmp_serde::to_vec(&(0, 1, "note", (FORGED,))).unwrap();
    [&[1, 0, 0, u8::try_from(body.len()).unwrap()], &body[..]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_connections_are_refused() {
    // The second connection gets all that the client has sent on the first.
    let first = Mutex::new(Vec::new());
    let replay = move |frame: Frame| {
        let mut first = first.lock().unwrap();
        match (frame.connection, frame.to_server) {
            // The first connection ends after some calls.
            (0, true) if frame.index < 12 => {
                first.push(frame.bytes.clone());
                vec![frame.bytes]
            }
            (0, _) => {
                if frame.index < 12 {
                    vec![frame.bytes]
                } else {
                    vec![vec![0; 8]]
                }
            }
            (1, true) => first.get(frame.index).cloned().into_iter().collect(),
            _ => vec![frame.bytes],
        }
    };
    call_through("a connection is replayed", replay).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_frames_lose_calls_and_nothing_else() {
    let mut cases = JoinSet::new();
    for index in CHANGED {
        cases.spawn(call_through(format!("without frame {index}"), at(index, |_| Vec::new())));
    }
    // The empty frame and the body of a message are boxes of their own.
    for index in [5, 6] {
        let lost = move |frame: Frame| {
            let is_lost = frame.index > 4 && frame.index % 7 == index;
            if is_lost { Vec::new() } else { vec![frame.bytes] }
        };
        cases.spawn(call_through(format!("without each seventh frame, from {index} on"), lost));
    }
    let all = CALLS * u32::try_from(cases.len()).unwrap();
    let succeeded: u32 = cases.join_all().await.into_iter().sum();
    assert!(succeeded < all, "nothing was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_not_downgraded() {
    let downgrade = |side: bool| {
        move |mut frame: Frame| {
            if frame.index == 0 && frame.to_server == side {
                frame.bytes[12..32].fill(0);
                frame.bytes[12..16].copy_from_slice(b"NULL");
            }
            vec![frame.bytes]
        }
    };
    assert_eq!(call_through("the client seems to use NULL", downgrade(true)).await, 0);
    assert_eq!(call_through("the server seems to use NULL", downgrade(false)).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_recovers_from_forged_refusals() {
    const ERROR: &[u8] = b"\x04\x0a\x05ERROR\x03400";
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let access = Access::new().allow("alice", keys.public("alice"), ["add"]);
    let server = keys.serve(&access, &gate).await;
    let forged = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&forged);
    // Answers the first two handshakes in place of the server.
    let mallory = Mallory::start(server.endpoint(), move |frame| {
        let is_answer = !frame.to_server && frame.index == 1;
        let is_forged = is_answer && count.load(Ordering::Relaxed) < 2;
        count.fetch_add(is_forged.into(), Ordering::Relaxed);
        vec![if is_forged { ERROR.to_vec() } else { frame.bytes }]
    });
    let mallory = mallory.await;
    let error = keys.client("alice").connect(&mallory.endpoint).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error:#}");
    assert!(format!("{error:#}").contains("does not admit the key"), "{error:#}");
    let client = keys.client("alice").connect_lazy(&mallory.endpoint).unwrap();
    let late = soon("the client is let in", async {
        loop {
            if let Ok(sum) = add::call(&client, 1, 2).await {
                return sum;
            }
        }
    });
    assert_eq!(late.await, 3);
    assert_eq!(forged.load(Ordering::Relaxed), 2);
    client.close().await;
    server.shutdown().await;
}
