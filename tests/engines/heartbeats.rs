//! Peers that ask whether we are there, and peers that are no longer there. (`tests/interop` has a
//! real peer with heartbeats.)

use rpc_core::Engine;

use crate::{
    Pair,
    zmtp::{COMMAND, Stranger, frame, request},
};

#[tokio::test]
async fn omq_answers_a_heartbeat_and_zeromq_ends_the_connection() {
    let pair = Pair::on(Engine::Omq).await;
    let mut peer = Stranger::known_at(pair.server.endpoint()).await;
    for _ in 0..3 {
        peer.say(&frame(COMMAND, b"\x04PING\0\0context")).await.unwrap();
        assert_eq!(peer.hear().await, frame(COMMAND, b"\x04PONGcontext"));
    }
    pair.end().await;

    let pair = Pair::on(Engine::Zeromq).await;
    let mut peer = Stranger::known_at(pair.server.endpoint()).await;
    peer.say(&frame(COMMAND, b"\x04PING\0\0context")).await.unwrap();
    peer.is_sent_away().await;
    pair.end().await;
}

#[tokio::test]
async fn omq_notices_that_a_peer_has_vanished_and_cancels_its_calls() {
    let pair = Pair::on(Engine::Omq).await;
    let mut peer = Stranger::known_at(pair.server.endpoint()).await;
    // It has an hour.
    let call = b"\x95\x00\x07\xaahold_async\x81\xaatimeout_ms\xce\x00\x36\xee\x80\x90";
    peer.say(&request(call)).await.unwrap();
    pair.gate.entered(1).await;
    // Its connection stays as it is: nothing more is said, and nothing is answered.
    pair.gate.left(1).await;
    peer.is_sent_away().await;
    pair.end().await;
}

#[tokio::test]
async fn omq_keeps_a_peer_that_is_silent_but_there() {
    let pair = Pair::on(Engine::Omq).await;
    let mut peer = Stranger::known_at(pair.server.endpoint()).await;
    // As many beats as it takes to notice a peer that is not there, and one more.
    for _ in 0..5 {
        assert_eq!(peer.hear().await[2..7], *b"\x04PING");
        peer.say(&frame(COMMAND, b"\x04PONG")).await.unwrap();
    }
    peer.say(&request(b"\x94\x00\x07\xa3add\x92\x01\x02")).await.unwrap();
    assert_eq!(peer.hear().await, frame(1, b""));
    assert_eq!(peer.hear().await, frame(0, b"\x94\x01\xce\0\0\0\x07\xc0\x03"));
    pair.end().await;
}
