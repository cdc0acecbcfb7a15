//! Who may call what, and what a change of the list does.

use std::{sync::Arc, time::Duration};

use rpc_core::{Access, Client, ErrorKind, KeyLimits, Ran, RpcError, ServeError};
use tests::{Gate, soon};

use crate::{Keys, add, block, hold, take, who};

fn denied<T: std::fmt::Debug, E>(result: Result<T, E>) -> bool
where
    RpcError: From<E>,
{
    let error = RpcError::from(result.unwrap_err());
    assert_eq!(error.ran(), Ran::No, "{error}");
    error.kind() == ErrorKind::Denied
}

#[tokio::test]
async fn each_key_may_call_what_the_list_says() {
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let access = Access::new().allow("alice", keys.public("alice"), ["add", "orders.*"]).allow(
        "bob",
        keys.public("bob"),
        ["who"],
    );
    let server = keys.serve(&access, &gate).await;
    let alice = keys.client("alice").connect(server.endpoint()).await.unwrap();
    let bob = keys.client("bob").connect(server.endpoint()).await.unwrap();
    assert_eq!(add::call(&alice, 1, 2).await.unwrap(), 3);
    assert!(take::call(&alice).await.is_ok());
    assert!(denied(who::call(&alice).await));
    assert!(denied(add::call(&bob, 1, 2).await));
    assert!(denied(take::call(&bob).await));
    let (name, key) = who::call(&bob).await.unwrap();
    assert_eq!((name.as_deref(), key), (Some("bob"), Some(keys.public("bob").to_string())));
    // What does not exist looks the same.
    let none = bob.call_dynamic::<()>("none", &()).await;
    let some = bob.call_dynamic::<()>("add", &(1, 2)).await;
    let text = |error: RpcError| error.to_string().replace("none", "add");
    assert_eq!(text(none.unwrap_err()), text(some.unwrap_err()));
    let shown = async |client: &Client| {
        let functions = client.discover().await.unwrap().functions;
        functions.into_iter().map(|function| function.name).collect::<Vec<_>>()
    };
    assert_eq!(shown(&alice).await, ["add", "orders.take"]);
    assert_eq!(shown(&bob).await, ["who"]);
    // Names that are like others do not lead to them.
    for name in ["rpc.orders.take", "rpc.who", "rpc.ad", "orders.tak"] {
        for (client, may_not) in [(&bob, "take"), (&alice, "who")] {
            let error = client.call_dynamic::<()>(name, &()).await.unwrap_err().to_string();
            let reason = error.rsplit_once(name).expect("it names the function").1;
            assert!(!reason.contains(may_not), "{error}");
        }
    }
    // Notifications are dropped, also in a batch.
    let before = take::call(&alice).await.unwrap();
    for _ in 0..100 {
        take::notify(&bob).await.unwrap();
    }
    assert!(who::call(&bob).await.is_ok());
    assert_eq!(take::call(&alice).await.unwrap(), before + 1);
    alice.close().await;
    bob.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn rights_change_while_a_key_is_connected() {
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let access = Access::new().allow("alice", keys.public("alice"), ["add"]);
    let server = keys.serve(&access, &gate).await;
    let alice = keys.client("alice").connect(server.endpoint()).await.unwrap();
    assert!(denied(take::call(&alice).await));
    access.grant("alice", keys.public("alice"), ["orders.take"]);
    assert!(take::call(&alice).await.is_ok());
    assert!(denied(add::call(&alice, 1, 2).await));
    alice.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn revoked_key_is_cut_off_with_all_its_calls() {
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let access = Access::new().allow("alice", keys.public("alice"), ["hold", "orders.take"]).allow(
        "bob",
        keys.public("bob"),
        ["orders.take"],
    );
    let server = keys.serve(&access, &gate).await;
    let alice = keys.client("alice").connect(server.endpoint()).await.unwrap();
    let bob = keys.client("bob").connect(server.endpoint()).await.unwrap();
    let calls: Vec<_> = (0..100).map(|_| tokio::spawn(hold::call(&alice).retries(0))).collect();
    gate.entered(100).await;
    assert!(access.revoke(&keys.public("alice")));
    // The calls that run are cancelled, although nobody opens the gate.
    gate.left(100).await;
    for call in calls {
        let error = soon("the call", call).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    }
    let before = take::call(&bob).await.unwrap();
    let late = take::call(&alice).timeout(Duration::from_millis(500)).await.unwrap_err();
    assert_eq!(late.ran(), Ran::No, "{late}");
    let again = keys.client("alice").connect_timeout(Duration::from_millis(500));
    assert!(again.connect(server.endpoint()).await.is_err());
    assert_eq!(take::call(&bob).await.unwrap(), before + 1, "nothing of alice has run");
    // A key that comes back is let in again.
    access.grant("alice", keys.public("alice"), ["orders.take"]);
    assert!(soon("alice is back", take::call(&alice).into_future()).await.is_ok());
    alice.close().await;
    bob.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn replies_are_remembered_for_their_key_only() {
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let access = Access::new().allow("alice", keys.public("alice"), ["*"]).allow(
        "bob",
        keys.public("bob"),
        ["*"],
    );
    let server = keys.serve(&access, &gate).await;
    let alice = keys.client("alice").connect(server.endpoint()).await.unwrap();
    let bob = keys.client("bob").connect(server.endpoint()).await.unwrap();
    let take = async |client: &Client| take::call(client).idempotency_key("k").await.unwrap();
    let first = take(&alice).await;
    assert_eq!(take(&alice).await, first);
    let others = take(&bob).await;
    assert_ne!(others, first, "it has the same idempotency key, and is another call");
    let again = keys.client("alice").connect(server.endpoint()).await.unwrap();
    assert_eq!(take(&again).await, first, "it is the same key on another connection");
    for client in [alice, bob, again] {
        client.close().await;
    }
    server.shutdown().await;
}

#[tokio::test]
async fn limits_count_over_all_connections_of_a_key() {
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let alice = keys.public("alice");
    let access = Access::new()
        .allow("alice", alice, ["*"])
        .allow("bob", keys.public("bob"), ["*"])
        .limit(&alice, KeyLimits::new().max_in_flight(2));
    let server = keys.serve(&access, &gate).await;
    let mut clients = Vec::new();
    for name in ["alice", "alice", "bob"] {
        clients.push(keys.client(name).retries(0).connect(server.endpoint()).await.unwrap());
    }
    let [first, second, bob] = [0, 1, 2].map(|index| clients[index].clone());
    let running = [&first, &second].map(|client| tokio::spawn(hold::call(client).into_future()));
    gate.entered(2).await;
    let error = take::call(&second).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Overloaded, Ran::No));
    assert!(error.to_string().contains("its limit (max_in_flight) is 2"), "{error}");
    assert!(take::call(&bob).await.is_ok());
    // Limits change while calls run. Notifications count as well.
    access.set_limits(&alice, KeyLimits::new().max_in_flight(3).calls_per_second(1));
    let before = take::call(&first).await.unwrap();
    let error = take::call(&second).await.unwrap_err();
    assert!(error.to_string().contains("may make 1 calls a second"), "{error}");
    assert!(error.retry_after().is_some_and(|wait| wait <= Duration::from_secs(1)), "{error:?}");
    take::notify(&second).await.unwrap();
    assert!(add::call(&second, 1, 2).await.is_err(), "the notification came before it");
    assert_eq!(take::call(&bob).await.unwrap(), before + 1);
    access.set_limits(&alice, KeyLimits::new());
    gate.open();
    for call in running {
        soon("the call", call).await.unwrap().unwrap();
    }
    assert!(take::call(&second).await.is_ok());
    for client in clients {
        client.close().await;
    }
    server.shutdown().await;
}

#[tokio::test]
async fn calls_that_a_server_gave_up_count_no_longer() {
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let alice = keys.public("alice");
    let limits = KeyLimits::new().max_in_flight(1).max_bytes_in_flight(1_000);
    let access = Access::new().allow("alice", alice, ["*"]).limit(&alice, limits);
    let first = keys.server(&access).shared_state(Arc::clone(&gate));
    let first = first.drain_timeout(Duration::ZERO).bind("tcp://127.0.0.1:0").await.unwrap();
    let first = first.spawn().unwrap();
    let client = keys.client("alice").retries(0).connect(first.endpoint()).await.unwrap();
    let stuck = tokio::spawn(block::call(&client).into_future());
    gate.entered(1).await;
    soon("the first server ends", first.shutdown()).await;
    assert!(soon("the call", stuck).await.unwrap().is_err());
    client.close().await;
    let second = keys.serve(&access, &gate).await;
    let client = keys.client("alice").retries(0).connect(second.endpoint()).await.unwrap();
    assert!(take::call(&client).await.is_ok());
    // What can never be admitted is not tried again.
    let client_that_retries = keys.client("alice").connect(second.endpoint()).await.unwrap();
    let large = client_that_retries.call_dynamic::<()>("who", &("x".repeat(1_000),)).await;
    assert!(matches!(large.unwrap_err().kind(), ErrorKind::TooLarge { limit: 1_000, .. }));
    client_that_retries.close().await;
    gate.open();
    client.close().await;
    second.shutdown().await;
}

#[tokio::test]
async fn keys_share_the_workers_however_many_connections_they_have() {
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let access = Access::new().allow_any_key(["*"]);
    let builder = keys.server(&access).shared_state(Arc::clone(&gate)).workers(1);
    let server = builder.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let mut clients = Vec::new();
    for name in ["alice", "alice", "alice", "bob"] {
        clients.push(keys.client(name).connect(server.endpoint()).await.unwrap());
    }
    // One call occupies the worker. Ten of each connection wait, those of bob behind the others.
    let occupied = tokio::spawn(block::call(&clients[0]).into_future());
    gate.entered(1).await;
    let mut waiting = Vec::new();
    for client in &clients {
        waiting.extend((0..10).map(|_| tokio::spawn(take::call(client).into_future())));
        // The tasks send their calls. An inline function is answered after those before it are in
        // the queue.
        tokio::task::yield_now().await;
        add::call(client, 1, 2).await.unwrap();
    }
    gate.open();
    soon("the first call", occupied).await.unwrap().unwrap();
    let mut order = Vec::new();
    for call in waiting {
        order.push(soon("a call", call).await.unwrap().unwrap());
    }
    // Of the first twenty calls that run, ten are bob's.
    let bobs = order.split_off(30);
    assert!(bobs.iter().all(|position| *position <= 20), "{bobs:?}");
    for client in clients {
        client.close().await;
    }
    server.shutdown().await;
}

#[tokio::test]
async fn settings_that_protect_nothing_are_refused() {
    let mut keys = Keys::default();
    let access = Access::new().allow_any_key(["*"]);
    let gate = Arc::<Gate>::default();
    let bind = async |builder: rpc_core::ServerBuilder| {
        let bound = builder.shared_state(Arc::clone(&gate)).bind("tcp://127.0.0.1:0").await;
        match bound {
            Err(ServeError::Curve { reason }) => reason,
            bound => panic!("{bound:?}"),
        }
    };
    let plain = || rpc_core::Server::builder().state(crate::Runs::default());
    let omq = || plain().engine(rpc_core::Engine::Omq);
    assert!(bind(omq().access(access.clone())).await.contains(".curve(secret)"));
    assert!(bind(omq().curve(keys.secret("server"))).await.contains(".access(list)"));
    let zeromq = plain().curve(keys.secret("server")).access(access);
    assert!(bind(zeromq).await.contains(".engine(Engine::Omq)"));
    let client = keys.client("alice").engine(rpc_core::Engine::Zeromq);
    let error = client.connect("tcp://127.0.0.1:1").await.unwrap_err();
    assert!(error.to_string().contains(".engine(Engine::Omq)"), "{error}");
}
