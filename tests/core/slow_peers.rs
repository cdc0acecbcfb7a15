//! Peers that do not read the replies to their requests, and peers that disappear.

use std::sync::{Arc, LazyLock};

use rpc_core::{Client, remote};
use tests::{Gate, RawClient, soon};

use crate::functions::{Fixture, add, builder};

const MIB: usize = 1024 * 1024;

#[remote]
fn mebibyte(#[state] gate: &Gate) -> Vec<u8> {
    let _inside = gate.enter();
    vec![0; MIB]
}

const MEBIBYTE: &[u8] = b"\x94\x00\x01\xa8mebibyte\x90";
const PING: &[u8] = b"\x94\x00\x02\xa8rpc.ping\x90";

/// Reads until the answer to a ping arrives, and returns the number of bytes that came before it.
/// The server drops pings while this peer has too many unread bytes, so the function sends another
/// ping after each message that it reads.
async fn read_up(peer: &mut RawClient) -> usize {
    let mut bytes = 0;
    loop {
        peer.send(&[b"", PING]).await;
        let body = peer.recv().await.pop().unwrap();
        if body.len() < 100 {
            return bytes;
        }
        bytes += body.len();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_replies_are_bounded_and_stall_nobody() {
    let gate: Arc<Gate> = Arc::default();
    let bound = builder(&gate).max_unread_bytes(8 * MIB).bind("tcp://127.0.0.1:0").await.unwrap();
    let server = bound.spawn().unwrap();
    let client = Client::connect(server.endpoint()).await.unwrap();
    let mut stuck = RawClient::connect(server.endpoint()).await;
    for _ in 0..200 {
        stuck.send(&[b"", MEBIBYTE]).await;
        assert_eq!(soon("the other's call", add::call(&client, 1, 2)).await.unwrap(), 3);
    }
    assert_eq!(mebibyte::call(&client).await.unwrap().len(), MIB);
    gate.left(201).await;
    // The bytes that arrive now were within the limit, or in the buffers of the sockets and of the
    // engine on this side.
    let unread = read_up(&mut stuck).await;
    assert!(unread < 64 * MIB, "{unread}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lone_slow_reader_is_bounded_and_served_again() {
    let gate: Arc<Gate> = Arc::default();
    let bound = builder(&gate).max_unread_bytes(8 * MIB).bind("tcp://127.0.0.1:0").await.unwrap();
    let server = bound.spawn().unwrap();
    let mut stuck = RawClient::connect(server.endpoint()).await;
    for _ in 0..200 {
        stuck.send(&[b"", MEBIBYTE]).await;
    }
    gate.left(200).await;
    let unread = read_up(&mut stuck).await;
    assert!(unread < 64 * MIB, "{unread}");
    for _ in 0..20 {
        stuck.send(&[b"", MEBIBYTE]).await;
        // Answers to earlier pings may still arrive before the reply.
        while stuck.recv().await[1].len() < MIB {}
    }
    server.shutdown().await;
}

#[tokio::test]
async fn kept_inproc_replies_do_not_count_as_unread() {
    let gate: Arc<Gate> = Arc::default();
    let endpoint = format!("inproc://{}", tests::unique());
    let server =
        builder(&gate).max_unread_bytes(4 * MIB).max_message_size(2 * MIB).bind(&endpoint).await;
    let server = server.unwrap().spawn().unwrap();
    let client = Client::connect(&endpoint).await.unwrap();
    let mut kept = Vec::new();
    for _ in 0..20 {
        let data = bytes::Bytes::from(vec![0; MIB]);
        kept.push(soon("the reply", crate::functions::echo::call(&client, data)).await.unwrap());
    }
    assert_eq!(kept.len(), 20);
    server.shutdown().await;
}

/// The gate at which `hold_io` waits. It belongs to one test, apart from the gate of the other
/// functions.
static IO: LazyLock<Gate> = LazyLock::new(Gate::default);

/// Blocks the server's I/O thread.
#[remote(inline)]
fn hold_io() -> bool {
    let _inside = IO.enter();
    IO.pass(|| false)
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_disconnects_leave_no_calls() {
    const PEERS: u32 = 1_500;
    let Fixture { client, server, gate } = Fixture::tcp().await;
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let mut peer = RawClient::connect(server.endpoint()).await;
        peer.send(&[b"", b"\x94\x00\x01\xaahold_async\x90"]).await;
        peers.push(peer);
    }
    gate.entered(PEERS).await;
    // The server discovers all disconnects in a single pass of its event loop.
    let held = tokio::spawn(hold_io::call(&client));
    IO.entered(1).await;
    drop(peers);
    IO.open();
    assert!(held.await.unwrap().unwrap());
    gate.left(PEERS).await;
    Fixture { client, server, gate }.end().await;
}
