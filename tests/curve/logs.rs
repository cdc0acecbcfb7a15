//! The log of a server: refused peers are in it, and secrets are not.

use std::{env, fs, sync::Arc, time::Duration};

use omq_tokio::CurveKeypair;
use rpc_core::{Access, Client, Engine, PublicKey, SecretKey};
use tests::{Gate, log::Log, soon};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tracing::Level;

use crate::{Keys, add, raw::Raw, take};

/// Returns the text of a secret key, as its file has it.
pub(crate) fn text(key: &SecretKey) -> String {
    let folder = env::temp_dir().join(tests::unique());
    fs::create_dir(&folder).unwrap();
    let (_, secret) = key.save(folder.join("key")).unwrap();
    let file = fs::read_to_string(secret).unwrap();
    fs::remove_dir_all(folder).unwrap();
    let (_, text) = file.split_once("secret-key = \"").unwrap();
    text.trim_end().trim_end_matches('"').to_owned()
}

#[tokio::test]
async fn secrets_are_in_no_line() {
    let log = Log::begin(Level::TRACE);
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let access = Access::new().allow("alice", keys.public("alice"), ["add"]);
    let server = keys.serve(&access, &gate).await;
    let alice = keys.client("alice").connect(server.endpoint()).await.unwrap();
    let call = add::call(&alice, 1, 2).metadata("token", "s3cr3t").idempotency_key("k3y");
    assert_eq!(call.await.unwrap(), 3);
    let denied = take::call(&alice).metadata("token", "s3cr3t").idempotency_key("k3y");
    let denied = format!("{:?}", denied.await.unwrap_err());
    let server_key = [keys.public("other")];
    let clients = [
        keys.client("mallory"),
        Client::builder().engine(Engine::Omq).curve(server_key, keys.secret("alice")),
    ];
    let mut texts = vec![denied, format!("{access:?} {alice:?} {server:?}")];
    for client in clients {
        texts.push(format!("{client:?}"));
        texts.push(format!("{:?}", client.connect(server.endpoint()).await.unwrap_err()));
    }
    texts.push(format!("{:?}", keys.server(&access)));
    let refused = log.line(&keys.public("mallory").to_string()).await;
    assert!(refused.contains("WARN") && refused.contains("it is not on the list"), "{refused}");
    texts.extend(log.lines(""));
    alice.close().await;
    server.shutdown().await;
    let secrets = ["server", "alice", "mallory"].map(|name| text(&keys.secret(name)));
    for secret in secrets.iter().map(String::as_str).chain(["s3cr3t", "k3y"]) {
        let found = texts.iter().find(|text| text.contains(secret));
        assert_eq!(found, None, "it has {secret}");
    }
}

#[tokio::test]
async fn strangers_do_not_fill_the_log() {
    let log = Log::begin(Level::TRACE);
    let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
    let access = Access::new().allow("alice", keys.public("alice"), ["*"]);
    let server = keys.serve(&access, &gate).await;
    // As a socket of libzmq does it, with a key that is not on the list.
    let stranger = CurveKeypair::generate();
    let key = PublicKey::from_bytes(*stranger.public.as_bytes()).to_string();
    let mut strangers = Vec::new();
    for _ in 0..100 {
        let server_key = keys.public("server");
        let raw = Raw::connect(server.endpoint(), server_key, stranger.clone(), None);
        strangers.push(raw.await);
    }
    // And with a wrong key of the server.
    let address = server.endpoint().strip_prefix("tcp://").unwrap();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(&crate::floods::bogus_hello()).await;
    }
    let alice = keys.client("alice").connect(server.endpoint()).await.unwrap();
    assert_eq!(add::call(&alice, 1, 2).await.unwrap(), 3);
    let all_failed = async {
        while log.lines("HELLO signature invalid").len() < 300 || log.lines(&key).len() < 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("all handshakes fail", all_failed).await;
    for what in [key.as_str(), "HELLO signature invalid"] {
        let lines = log.lines(what);
        let warnings = lines.iter().filter(|line| line.contains("WARN")).count();
        // Other tests, with servers of their own, write a few of the second kind.
        assert!((1..30).contains(&warnings), "{what}: {warnings} of {}", lines.len());
    }
    alice.close().await;
    server.shutdown().await;
}
