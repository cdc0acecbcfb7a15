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

#[tokio::test]
async fn late_replies_are_not_for_the_heir_of_a_name() {
    for engine in [Engine::Omq, Engine::Zeromq] {
        let pair = Pair::on(engine).await;
        let mut leaver = Stranger::known_as(&ready_as("Ada"), pair.server.endpoint()).await;
        // A function that does not notice that its call is cancelled, and one that does.
        leaver.send(&request(b"\x94\x00\x07\xafhold_stubbornly\x90")).await.unwrap();
        leaver.send(&request(HOLD)).await.unwrap();
        pair.gate.entered(2).await;
        drop(leaver);
        pair.gate.left(1).await;
        let mut heir = Stranger::known_as(&ready_as("Ada"), pair.server.endpoint()).await;
        pair.gate.open();
        pair.gate.left(1).await;
        heir.send(&request(b"\x94\x00\x09\xa3add\x92\x01\x02")).await.unwrap();
        assert_eq!(heir.recv().await, frame(MORE, b""));
        assert_eq!(heir.recv().await, frame(0, b"\x94\x01\xce\0\0\0\x09\xc0\x03"), "{engine:?}");
        pair.end().await;
    }
}
