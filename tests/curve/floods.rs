//! Strangers who open many connections.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rpc_core::{Access, Client, ServerHandle};
use tests::{Gate, resources::own_memory, soon};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::{Keys, add, mallory::Mallory};

/// The connections of a flood.
const CONNECTIONS: usize = 10_000;
/// The connections of a flood that are open at the same time.
const AT_ONCE: usize = 64;
/// The handshakes that are held half-way: more than the engine keeps.
const HELD: usize = 1_500;
/// The memory that strangers may make a server use. The engine keeps 1,024 handshakes, and this
/// process has the ends of the strangers as well.
const MEMORY: u64 = 200 << 20;

/// Returns what a client sends first: its greeting, and a HELLO in a box that nobody can open.
pub(crate) fn bogus_hello() -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 1];
    bytes.extend(b"CURVE");
    bytes.resize(64, 0);
    // A command of 200 bytes: its name, version 1.0, padding, a public key, a nonce, a box.
    bytes.extend([4, 200]);
    bytes.extend(b"\x05HELLO\x01\x00");
    bytes.resize(64 + 2 + 8 + 72, 0);
    bytes.resize(64 + 2 + 200, 9);
    bytes
}

/// Returns what a real client sends first, which anybody who listens can send again.
async fn valid_hello(keys: &mut Keys, server: &ServerHandle) -> Vec<u8> {
    let seen = Arc::<Mutex<Vec<u8>>>::default();
    let record = Arc::clone(&seen);
    let mallory = Mallory::start(server.endpoint(), move |frame| {
        if frame.connection == 0 && frame.to_server && frame.index < 2 {
            record.lock().unwrap().extend(&frame.bytes);
        }
        vec![frame.bytes]
    });
    let client = keys.client("alice").connect(&mallory.await.endpoint).await.unwrap();
    client.close().await;
    std::mem::take(&mut *seen.lock().unwrap())
}

/// Connects, sends `bytes`, and reads until the server closes, or for `patience` at most. Returns
/// the connection.
async fn stranger(address: &str, bytes: &[u8], patience: Duration) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(bytes).await.ok()?;
    let mut answer = [0; 512];
    let read = async { while stream.read(&mut answer).await.is_ok_and(|count| count > 0) {} };
    let _ = timeout(patience, read).await;
    Some(stream)
}

/// Opens `total` connections that send `bytes`. It ends when the result is dropped.
fn flood(address: &str, bytes: &[u8], total: usize) -> JoinSet<()> {
    let opened = Arc::<AtomicUsize>::default();
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (address, bytes) = (address.to_owned(), bytes.to_owned());
        let opened = Arc::clone(&opened);
        tasks.spawn(async move {
            while opened.fetch_add(1, Ordering::Relaxed) < total {
                stranger(&address, &bytes, Duration::from_millis(5)).await;
            }
        });
    }
    tasks
}

struct Flooded {
    keys: Keys,
    server: ServerHandle,
    address: String,
    client: Client,
    /// The bytes that strangers send, by name.
    kinds: [(&'static str, Vec<u8>); 3],
}

impl Flooded {
    async fn start() -> Self {
        let (mut keys, gate) = (Keys::default(), Arc::<Gate>::default());
        let access = Access::new().allow("alice", keys.public("alice"), ["add"]);
        let server = keys.serve(&access, &gate).await;
        let kinds = [
            ("nothing", Vec::new()),
            ("a bogus HELLO", bogus_hello()),
            ("a valid HELLO", valid_hello(&mut keys, &server).await),
        ];
        let client = keys.client("alice").connect(server.endpoint()).await.unwrap();
        let address = server.endpoint().strip_prefix("tcp://").unwrap().to_owned();
        Self { keys, server, address, client, kinds }
    }

    async fn end(self) {
        self.client.close().await;
        self.server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_take_bounded_memory_and_calls_go_on() {
    let flooded = Flooded::start().await;
    let before = own_memory();
    for (what, bytes) in &flooded.kinds {
        let mut flood = flood(&flooded.address, bytes, CONNECTIONS);
        let mut calls = 0;
        while !flood.is_empty() {
            assert_eq!(add::call(&flooded.client, 1, 2).await.unwrap(), 3, "{what}");
            calls += 1;
            while flood.try_join_next().is_some() {}
        }
        let grown = own_memory().saturating_sub(before);
        println!("{CONNECTIONS} connections with {what}: {calls} calls, {grown} B more");
        assert!(grown < MEMORY, "{what}: {grown}");
    }
    flooded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_handshakes_keep_nobody_out_for_long() {
    let mut flooded = Flooded::start().await;
    let before = own_memory();
    let [_, _, (_, valid)] = &flooded.kinds;
    let mut opening = JoinSet::new();
    for _ in 0..HELD {
        let (address, valid) = (flooded.address.clone(), valid.clone());
        opening.spawn(async move { stranger(&address, &valid, Duration::from_millis(1)).await });
    }
    let held = soon("the connections open", opening.join_all()).await;
    assert_eq!(add::call(&flooded.client, 1, 2).await.unwrap(), 3);
    let grown = own_memory().saturating_sub(before);
    assert!(grown < MEMORY, "{grown}");
    // A new client gets in at the latest when the engine gives up the held handshakes.
    let begin = Instant::now();
    let client = flooded.keys.client("alice").connect_timeout(Duration::from_secs(30));
    let client = client.connect(flooded.server.endpoint()).await.unwrap();
    println!("{HELD} held handshakes: {grown} B more, a new client waits {:?}", begin.elapsed());
    drop(held);
    client.close().await;
    flooded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_hellos_are_not_read() {
    let flooded = Flooded::start().await;
    let before = own_memory();
    // A command of 8 MiB, of which everything but the end is sent.
    let mut bytes = bogus_hello()[..64].to_vec();
    bytes.push(6);
    bytes.extend(8_388_608_u64.to_be_bytes());
    bytes.extend(b"\x05HELLO\x01\x00");
    bytes.resize(8 << 20, 0);
    let mut open = Vec::new();
    for _ in 0..30 {
        let huge = stranger(&flooded.address, &bytes, Duration::from_millis(50));
        open.push(timeout(Duration::from_secs(1), huge).await);
    }
    let grown = own_memory().saturating_sub(before);
    println!("30 HELLOs of 8 MiB: {grown} B more");
    assert!(grown < MEMORY, "{grown}");
    assert_eq!(add::call(&flooded.client, 1, 2).await.unwrap(), 3);
    flooded.end().await;
}

/// Measures how many calls a second a good client makes, while strangers do as they like.
async fn rate(client: &Client, at_once: usize) -> usize {
    const SECONDS: u64 = 2;
    let begin = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..at_once {
        let client = client.clone();
        callers.spawn(async move {
            let mut calls = 0;
            while begin.elapsed() < Duration::from_secs(SECONDS) {
                add::call(&client, 1, 2).await.unwrap();
                calls += 1;
            }
            calls
        });
    }
    callers.join_all().await.into_iter().sum::<usize>() / 2
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn good_clients_beside_a_flood() {
    let flooded = Flooded::start().await;
    for at_once in [1, 64, 1_024] {
        for (what, bytes) in &flooded.kinds {
            let mut idle = Vec::new();
            for _ in 0..AT_ONCE {
                idle.push(TcpStream::connect(&flooded.address).await.unwrap());
            }
            let before = rate(&flooded.client, at_once).await;
            drop(idle);
            let flood = flood(&flooded.address, bytes, usize::MAX);
            let beside = rate(&flooded.client, at_once).await;
            drop(flood);
            println!(
                "{at_once} calls at once, beside {AT_ONCE} connections that send {what} again and \
                 again: {beside} calls/s, beside as many idle ones {before} calls/s"
            );
            assert!(beside > 0);
        }
    }
    flooded.end().await;
}
