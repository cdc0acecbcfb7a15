//! Peers that send heartbeats to the server, and peers that no longer answer the server's
//! heartbeats. (`tests/interop` tests heartbeats with libzmq.)

use rpc_core::Engine;

use crate::{
    Pair,
    zmtp::{COMMAND, Stranger, frame, request},
};

#[tokio::test]
async fn omq_answers_heartbeats_zeromq_disconnects() {
    let pair = Pair::on(Engine::Omq).await;
    let mut peer = Stranger::known_at(pair.server.endpoint()).await;
    for _ in 0..3 {
        peer.send(&frame(COMMAND, b"\x04PING\0\0context")).await.unwrap();
        assert_eq!(peer.recv().await, frame(COMMAND, b"\x04PONGcontext"));
    }
    pair.end().await;

    let pair = Pair::on(Engine::Zeromq).await;
    let mut peer = Stranger::known_at(pair.server.endpoint()).await;
    peer.send(&frame(COMMAND, b"\x04PING\0\0context")).await.unwrap();
    peer.until_disconnected().await;
    pair.end().await;
}

#[tokio::test]
async fn omq_cancels_calls_of_a_vanished_peer() {
    let pair = Pair::on(Engine::Omq).await;
    let mut peer = Stranger::known_at(pair.server.endpoint()).await;
    // The call has a timeout of one hour, so its deadline does not end it.
    let call = b"\x95\x00\x07\xaahold_async\x81\xaatimeout_ms\xce\x00\x36\xee\x80\x90";
    peer.send(&request(call)).await.unwrap();
    pair.gate.entered(1).await;
    // The connection stays open, but the peer sends nothing more and answers no heartbeat.
    pair.gate.left(1).await;
    peer.until_disconnected().await;
    pair.end().await;
}

#[tokio::test]
async fn omq_keeps_an_idle_peer_that_answers_pings() {
    let pair = Pair::on(Engine::Omq).await;
    let mut peer = Stranger::known_at(pair.server.endpoint()).await;
    // This is one heartbeat more than `omq` needs to notice an absent peer.
    for _ in 0..5 {
        assert_eq!(peer.recv().await[2..7], *b"\x04PING");
        peer.send(&frame(COMMAND, b"\x04PONG")).await.unwrap();
    }
    peer.send(&request(b"\x94\x00\x07\xa3add\x92\x01\x02")).await.unwrap();
    assert_eq!(peer.recv().await, frame(1, b""));
    assert_eq!(peer.recv().await, frame(0, b"\x94\x01\xce\0\0\0\x07\xc0\x03"));
    pair.end().await;
}
