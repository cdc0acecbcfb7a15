//! Who gets a connection.

use std::{sync::Arc, time::Duration};

use rpc_core::{Access, Client, Engine, ErrorKind};
use tests::Gate;

use crate::{Keys, add, who};

#[tokio::test]
async fn only_the_keys_of_the_list_are_connected() {
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let access = Access::new().allow("alice", keys.public("alice"), ["*"]);
    let server = keys.serve(&access, &gate).await;
    let alice = keys.client("alice").connect(server.endpoint()).await.unwrap();
    assert_eq!(add::call(&alice, 1, 2).await.unwrap(), 3);
    let other = keys.public("other");
    let both = [keys.public("server"), keys.public("next")];
    let unlisted = Client::builder().engine(Engine::Omq).curve(both, keys.secret("mallory"));
    let wrong_server = Client::builder().engine(Engine::Omq).curve([other], keys.secret("alice"));
    let clients = [
        ("a key that is not on the list", keys.client("mallory"), "does not admit the key"),
        ("the same, while the server's keys change", unlisted, "does not admit the key"),
        ("a wrong key of the server", wrong_server, "has another key"),
        ("no key", Client::builder().engine(Engine::Omq), "encrypted connections only"),
        ("no key, on the other engine", Client::builder(), "encrypted connections only"),
    ];
    for (what, client, reason) in clients {
        let client = client.connect_timeout(Duration::from_millis(400));
        let error = client.connect(server.endpoint()).await.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{what}: {error:#}");
        assert!(format!("{error:#}").contains(reason), "{what}: {error:#}");
    }
    let keyless = Client::builder().engine(Engine::Omq).curve([], keys.secret("alice"));
    let error = keyless.connect(server.endpoint()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidEndpoint, "{error}");
    assert_eq!(add::call(&alice, 1, 2).await.unwrap(), 3);
    alice.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn encrypted_client_calls_no_plain_server() {
    let mut keys = Keys::default();
    for engine in [Engine::Omq, Engine::Zeromq] {
        let builder = rpc_core::Server::builder().engine(engine).serve::<add>();
        let server = builder.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
        let client = keys.client("alice").connect_timeout(Duration::from_millis(400));
        let error = client.connect(server.endpoint()).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error:#}");
        assert!(format!("{error:#}").contains("does not encrypt"), "{engine:?}: {error:#}");
        server.shutdown().await;
    }
}

#[tokio::test]
async fn servers_get_new_keys_while_clients_run() {
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let access = Access::new().allow_any_key(["*"]);
    let server = keys.serve(&access, &gate).await;
    let both = [keys.public("next"), keys.public("server")];
    let client = Client::builder().engine(Engine::Omq).curve(both, keys.secret("alice"));
    let client = client.connect(server.endpoint()).await.unwrap();
    let (name, key) = who::call(&client).await.unwrap();
    assert_eq!((name, key), (None, Some(keys.public("alice").to_string())));
    client.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn every_transport_of_a_server_is_protected() {
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let access = Access::new().allow("alice", keys.public("alice"), ["who"]);
    let builder = keys.server(&access).shared_state(gate);
    let server = builder.bind(tests::endpoints()).await.unwrap().spawn().unwrap();
    for endpoint in server.endpoints() {
        let alice = keys.client("alice").connect(endpoint).await.unwrap();
        let (name, _) = who::call(&alice).await.unwrap();
        // Whoever is in the same process needs no key.
        let is_memory = endpoint.starts_with("inproc://");
        assert_eq!(name.as_deref(), (!is_memory).then_some("alice"), "{endpoint}");
        let plain = Client::builder().engine(Engine::Omq);
        let plain = plain.connect_timeout(Duration::from_millis(300)).connect(endpoint).await;
        assert_eq!(plain.is_ok(), is_memory, "{endpoint}");
        alice.close().await;
    }
    server.shutdown().await;
}
