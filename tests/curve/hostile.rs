//! Peers that have a key, and want what is another's.

use std::{sync::Arc, time::Duration};

use omq_tokio::CurveKeypair;
use rpc_core::{Access, Client, Engine, PublicKey};
use tests::{Gate, soon};

use crate::{Keys, add, block, hold, raw::Raw, take};

/// Keys of low order: with all others they lead to the same secret, which everybody knows.
pub(crate) const WEAK: [[u8; 32]; 2] = [[0; 32], {
    let mut one = [0; 32];
    one[0] = 1;
    one
}];

/// A key pair of the engine, and its public key.
fn pair() -> (CurveKeypair, PublicKey) {
    let pair = CurveKeypair::generate();
    let public = PublicKey::from_bytes(*pair.public.as_bytes());
    (pair, public)
}

#[tokio::test]
async fn names_of_others_are_refused() {
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let ((alice, alices), (bob, bobs)) = (pair(), pair());
    let access = Access::new().allow("alice", alices, ["*"]).allow("bob", bobs, ["*"]);
    let server = keys.serve(&access, &gate).await;
    let server_key = keys.public("server");
    let connect = async |pair: &CurveKeypair, name: &[u8]| {
        let name = Some(name).filter(|name| !name.is_empty());
        Raw::connect(server.endpoint(), server_key, pair.clone(), name).await
    };
    let own = format!("{bobs}/worker");
    for (name, is_own) in [
        ("", true),
        (own.as_str(), true),
        (&bobs.to_string(), true),
        ("worker", false),
        (&alices.to_string(), false),
        (&bobs.to_string()[..39], false),
    ] {
        assert_eq!(connect(&bob, name.as_bytes()).await.is_answered().await, is_own, "{name}");
    }

    // Alice leaves while her call runs, and Bob takes her name.
    let name = format!("{alices}/1");
    let leaver = connect(&alice, name.as_bytes()).await;
    leaver.send(&(0, 7, "block", [0; 0])).await;
    gate.entered(1).await;
    drop(leaver);
    let heir = connect(&bob, name.as_bytes()).await;
    gate.open();
    gate.left(1).await;
    assert_eq!(heir.recv().await, None, "the reply is another's");
    server.shutdown().await;
}

#[tokio::test]
async fn cancels_end_no_calls_of_others() {
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let (bob, bobs) = pair();
    let access =
        Access::new().allow("alice", keys.public("alice"), ["*"]).allow("bob", bobs, ["*"]);
    let server = keys.serve(&access, &gate).await;
    let alice = keys.client("alice").connect(server.endpoint()).await.unwrap();
    let call = tokio::spawn(hold::call(&alice).into_future());
    gate.entered(1).await;
    let bob = Raw::connect(server.endpoint(), keys.public("server"), bob, None).await;
    for id in 0..100 {
        bob.send(&(2, "rpc.cancel", (id,))).await;
    }
    assert!(bob.is_answered().await, "the cancels have arrived");
    gate.open();
    soon("the call", call).await.unwrap().unwrap();
    alice.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn waiting_calls_of_a_revoked_key_never_run() {
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let alices = keys.public("alice");
    let access = Access::new().allow("alice", alices, ["*"]).allow(
        "bob",
        keys.public("bob"),
        ["orders.take"],
    );
    let server = keys.server(&access).shared_state(Arc::clone(&gate)).workers(1);
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let alice = keys.client("alice").retries(0).connect(server.endpoint()).await.unwrap();
    let mut calls: Vec<_> =
        (0..100).map(|_| tokio::spawn(hold::call(&alice).into_future())).collect();
    calls.push(tokio::spawn(block::call(&alice).into_future()));
    gate.entered(101).await;
    let waiting = (0..500).map(|_| take::call(&alice));
    let keyed = (0..100).map(|n| take::call(&alice).idempotency_key(format!("{n}")));
    let waiting: Vec<_> =
        waiting.chain(keyed).map(|call| tokio::spawn(call.into_future())).collect();
    // The tasks send their calls. An inline function is answered after those before it are in the
    // queue.
    tokio::task::yield_now().await;
    for _ in 0..100 {
        take::notify(&alice).await.unwrap();
    }
    add::call(&alice, 1, 2).await.unwrap();
    assert!(access.revoke(&alices));
    gate.left(100).await;
    gate.open();
    for call in calls {
        assert!(soon("a call", call).await.unwrap().is_err());
    }
    for call in waiting {
        assert!(soon("a call", call).await.unwrap().is_err());
    }
    let bob = keys.client("bob").connect(server.endpoint()).await.unwrap();
    assert_eq!(take::call(&bob).await.unwrap(), 0, "nothing of alice has run");
    alice.close().await;
    bob.close().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_key_does_not_slip_through_its_handshake() {
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let alices = keys.public("alice");
    let access = Access::new().allow("bob", keys.public("bob"), ["orders.take"]);
    let server = keys.serve(&access, &gate).await;
    let bob = keys.client("bob").connect(server.endpoint()).await.unwrap();
    let mut runs = 0;
    for round in 0..30 {
        access.grant("alice", alices, ["orders.take"]);
        let client = keys.client("alice").connect_timeout(Duration::from_millis(200));
        let endpoint = server.endpoint().to_owned();
        let alice = tokio::spawn(async move {
            if let Ok(alice) = client.connect(&endpoint).await {
                for _ in 0..5 {
                    let _ = take::call(&alice).timeout(Duration::from_millis(20)).await;
                }
                alice.close().await;
            }
        });
        // A handshake takes about a millisecond.
        tokio::time::sleep(Duration::from_micros(100 * round)).await;
        access.revoke(&alices);
        let before = take::call(&bob).await.unwrap();
        soon("alice gives up", alice).await.unwrap();
        let after = take::call(&bob).await.unwrap();
        assert_eq!(after, before + 1, "alice was let in after her key was revoked");
        runs = after;
    }
    println!("alice made {} calls before she was revoked", runs + 1 - 60);
    bob.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn servers_with_a_key_that_proves_nothing_are_refused() {
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let server = keys.serve(&Access::new().allow_any_key(["*"]), &gate).await;
    for key in WEAK {
        let client = Client::builder().engine(Engine::Omq);
        let client = client.curve([PublicKey::from_bytes(key)], keys.secret("alice"));
        let client = client.connect_timeout(Duration::from_millis(300));
        assert!(client.connect(server.endpoint()).await.is_err());
    }
    server.shutdown().await;
}
