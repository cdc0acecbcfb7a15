//! Peers that choose their own identity, as the option `ZMQ_IDENTITY` does. An identity proves
//! nothing about the peer.

use rpc_core::Engine;

use crate::{
    Pair,
    zmtp::{MORE, Stranger, frame, ready_as, request},
};

const HOLD: &[u8] = b"\x94\x00\x07\xaahold_async\x90";

#[tokio::test]
async fn calls_of_a_named_peer_end_with_it() {
    for engine in [Engine::Omq, Engine::Zeromq] {
        let pair = Pair::on(engine).await;
        let mut peer = Stranger::known_as(&ready_as("Ada"), pair.server.endpoint()).await;
        peer.send(&request(HOLD)).await.unwrap();
        pair.gate.entered(1).await;
        drop(peer);
        pair.gate.left(1).await;
        pair.end().await;
    }
}

#[tokio::test]
async fn omq_new_owner_of_a_name_gets_its_replies() {
    let pair = Pair::on(Engine::Omq).await;
    let mut first = Stranger::known_as(&ready_as("Ada"), pair.server.endpoint()).await;
    first.send(&request(HOLD)).await.unwrap();
    pair.gate.entered(1).await;
    let mut second = Stranger::known_as(&ready_as("Ada"), pair.server.endpoint()).await;
    first.until_disconnected().await;
    pair.gate.open();
    assert_eq!(second.recv().await, frame(MORE, b""));
    assert_eq!(second.recv().await, frame(0, b"\x94\x01\xce\0\0\0\x07\xc0\xc3"));
    pair.end().await;
}
