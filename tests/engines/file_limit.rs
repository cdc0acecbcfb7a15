//! A server process that is out of file descriptors.

use rpc_core::{Client, Engine};
use tokio::net::TcpStream;

use crate::{child, works};

/// The number of files that the server may open: more than it needs without peers.
const FILES: u32 = 64;

/// Starts a server with a client, and opens more connections than the server may have. Returns the
/// connections too.
async fn full(engine: Engine) -> (child::Server, Client, Vec<TcpStream>) {
    let command = child::test_with_files("child::a_server_with_a_log", FILES);
    let server = child::Server::run(command, engine, "tcp://127.0.0.1:0").await;
    let client = Client::connect(&server.endpoint).await.unwrap();
    let address = server.endpoint.strip_prefix("tcp://").unwrap();
    let mut connections = Vec::new();
    for _ in 0..FILES {
        connections.push(TcpStream::connect(address).await.unwrap());
    }
    (server, client, connections)
}

#[tokio::test]
async fn zeromq_says_that_files_are_used_up_and_keeps_its_peers() {
    let (mut server, client, connections) = full(Engine::Zeromq).await;
    server.writes("out of file descriptors").await;
    works(&client).await;
    drop(connections);
    works(&Client::connect(&server.endpoint).await.unwrap()).await;
    assert!(server.told_to_end().await.success());
}

#[tokio::test]
async fn omq_keeps_its_peers_when_files_are_used_up() {
    let (server, client, connections) = full(Engine::Omq).await;
    works(&client).await;
    drop(connections);
    works(&Client::connect(&server.endpoint).await.unwrap()).await;
    assert!(server.told_to_end().await.success());
}
