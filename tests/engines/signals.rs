//! A server in a program that does not ignore SIGPIPE, as the programs of other languages do.

use bytes::Bytes;
use rpc_core::{Client, Engine, remote};
use tests::{ipc, soon};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use crate::{child, works, zmtp};

/// The number of peers that leave. Whether one of them leaves in the middle of a reply is a matter
/// of time, but it happens to one of a few.
const PEERS: usize = 50;
const REQUESTS: usize = 64;

#[remote(inline)]
fn a_large_reply() -> Bytes {
    vec![0; 100_000].into()
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn connect(endpoint: &str) -> Box<dyn Stream> {
    match endpoint.split_once("://").expect("it is an endpoint") {
        ("ipc", path) => Box::new(UnixStream::connect(path).await.expect("a server listens")),
        (_, address) => Box::new(TcpStream::connect(address).await.expect("a server listens")),
    }
}

/// A peer that sends requests, and leaves before it has read the replies.
async fn leave_early(endpoint: &str) {
    let mut stream = connect(endpoint).await;
    let hello = [zmtp::greeting(1), zmtp::ready()].concat();
    let requests = zmtp::request(b"\x94\x00\x07\xada_large_reply\x90").repeat(REQUESTS);
    // An error means that the server has ended the connection, or has ended. The test shows below
    // which one it is.
    let _ = stream.write_all(&hello).await;
    let _ = stream.read_exact(&mut [0; 64 + 8]).await;
    let _ = stream.write_all(&requests).await;
}

async fn outlives_peers_that_leave(engine: Engine) {
    for endpoint in ["tcp://127.0.0.1:0".to_owned(), ipc()] {
        let server = child::Server::start_with_sigpipe(engine, &endpoint).await;
        for _ in 0..PEERS {
            soon("a peer leaves", leave_early(&server.endpoint)).await;
        }
        works(&soon("connecting", Client::connect(&server.endpoint)).await.unwrap()).await;
        let status = server.told_to_end().await;
        assert!(status.success(), "{endpoint}: {status}");
    }
}

#[tokio::test]
async fn zeromq_outlives_peers_that_leave() {
    outlives_peers_that_leave(Engine::Zeromq).await;
}

#[tokio::test]
async fn omq_outlives_peers_that_leave() {
    outlives_peers_that_leave(Engine::Omq).await;
}
