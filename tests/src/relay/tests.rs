//! Tests of each failure mode, as seen from both ends of a connection.

use std::{io::ErrorKind, time::Instant};

use super::*;
use crate::soon;

/// Returns a client that is connected through a relay, and the server's end of the connection.
async fn connected() -> (Relay, TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = Relay::start(listener.local_addr().unwrap()).await;
    let (client, server) = pair(&relay, &listener).await;
    (relay, listener, client, server)
}

async fn pair(relay: &Relay, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(relay.address).await.unwrap();
    let (server, _) = soon("the relay connects", listener.accept()).await.unwrap();
    (client, server)
}

async fn passes(from: &mut TcpStream, to: &mut TcpStream) {
    let mut received = [0; 4];
    from.write_all(b"ping").await.unwrap();
    soon("the bytes arrive", to.read_exact(&mut received)).await.unwrap();
    assert_eq!(&received, b"ping");
}

/// Returns true if nothing arrives for a while. An error is possible only in one direction: the
/// result may be `true` although bytes would arrive later.
async fn receives_nothing(stream: &mut TcpStream) -> bool {
    time::timeout(Duration::from_millis(50), stream.read(&mut [0])).await.is_err()
}

async fn until_there_are(connections: usize, relay: &Relay) {
    soon("connections come and go", async {
        while relay.connections() != connections {
            time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn relay_forwards_both_ways_and_forwards_fin() {
    let (relay, _listener, mut client, mut server) = connected().await;
    passes(&mut client, &mut server).await;
    passes(&mut server, &mut client).await;
    assert_eq!(relay.connections(), 1);
    client.shutdown().await.unwrap();
    assert_eq!(soon("the end arrives", server.read(&mut [0])).await.unwrap(), 0);
    // The other direction still works.
    passes(&mut server, &mut client).await;
    drop(server);
    assert_eq!(soon("the end arrives", client.read(&mut [0])).await.unwrap(), 0);
    until_there_are(0, &relay).await;
}

#[tokio::test]
async fn large_streams_pass_unchanged() {
    let (_relay, _listener, client, mut server) = connected().await;
    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let (mut read, mut write) = client.into_split();
    let echo = tokio::spawn(async move {
        let (mut read, mut write) = server.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    });
    let copy = sent.clone();
    let sending = tokio::spawn(async move { write.write_all(&copy).await.unwrap() });
    let mut received = vec![0; sent.len()];
    soon("all of it comes back", read.read_exact(&mut received)).await.unwrap();
    assert!(received == sent);
    sending.await.unwrap();
    drop(read);
    soon("the echo ends", echo).await.unwrap();
}

#[tokio::test]
async fn cut_ends_both_sides_but_not_new_connections() {
    for (cut, seen) in [(Cut::Close, None), (Cut::Reset, Some(ErrorKind::ConnectionReset))] {
        let (relay, listener, mut client, mut server) = connected().await;
        passes(&mut client, &mut server).await;
        relay.cut(cut);
        for stream in [&mut client, &mut server] {
            let end = soon("the end arrives", stream.read(&mut [0])).await;
            assert_eq!(end.map_err(|error| error.kind()).err(), seen, "{cut:?}");
        }
        until_there_are(0, &relay).await;
        let (mut client, mut server) = pair(&relay, &listener).await;
        passes(&mut client, &mut server).await;
    }
}

#[tokio::test]
async fn frozen_bytes_arrive_later() {
    let (relay, _listener, mut client, mut server) = connected().await;
    relay.set(From::Client, Mode::Freeze);
    client.write_all(b"later").await.unwrap();
    assert!(receives_nothing(&mut server).await);
    // The other direction is not frozen.
    passes(&mut server, &mut client).await;
    // Nobody reads, so the buffers fill up.
    let full = soon("the buffers fill up", async {
        let data = vec![0; 1 << 20];
        loop {
            if time::timeout(Duration::from_millis(100), client.write(&data)).await.is_err() {
                break true;
            }
        }
    });
    assert!(full.await);
    relay.set(From::Client, Mode::Pass);
    let mut received = [0; 5];
    soon("it arrives", server.read_exact(&mut received)).await.unwrap();
    assert_eq!(&received, b"later");
}

#[tokio::test]
async fn black_hole_discards_and_never_resumes() {
    let (relay, listener, mut client, mut server) = connected().await;
    relay.set_both(Mode::BlackHole);
    client.write_all(&vec![0; 10 << 20]).await.unwrap();
    server.write_all(b"nobody").await.unwrap();
    assert!(receives_nothing(&mut server).await);
    // New connections are accepted, and lose their bytes as well.
    let (mut second, mut second_server) = pair(&relay, &listener).await;
    second.write_all(b"hello").await.unwrap();
    assert!(receives_nothing(&mut second_server).await);

    relay.set_both(Mode::Pass);
    client.write_all(b"more").await.unwrap();
    assert!(receives_nothing(&mut server).await, "bytes are missing in front of these");
    let (mut third, mut third_server) = pair(&relay, &listener).await;
    passes(&mut third, &mut third_server).await;
    relay.cut(Cut::Close);
    assert_eq!(soon("the end arrives", client.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn delayed_bytes_arrive_after_the_delay() {
    let (relay, _listener, mut client, mut server) = connected().await;
    let delay = Duration::from_millis(30);
    relay.set(From::Client, Mode::Delay(delay));
    let begin = Instant::now();
    passes(&mut client, &mut server).await;
    assert!(begin.elapsed() >= delay);
}

#[tokio::test]
async fn unreachable_target_closes_the_connection() {
    let (relay, listener, _client, _server) = connected().await;
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    relay.retarget(other.local_addr().unwrap());
    let (mut client, mut server) = pair(&relay, &other).await;
    passes(&mut client, &mut server).await;
    drop(other);
    let mut refused = TcpStream::connect(relay.address).await.unwrap();
    let end = soon("the end arrives", refused.read(&mut [0])).await;
    assert!(matches!(end, Ok(0) | Err(_)));
    drop(listener);
}

#[tokio::test]
async fn dropping_the_relay_ends_its_connections() {
    let (relay, _listener, mut client, _server) = connected().await;
    drop(relay);
    assert!(matches!(soon("the end arrives", client.read(&mut [0])).await, Ok(0) | Err(_)));
}
