//! Streams under faults, with readers that take their time, and with hostile peers.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use rpc_core::{CallError, Client, ErrorKind, Ran, RpcError};
use tests::{
    RawClient,
    mutate::Mutator,
    process::ServerProcess,
    resources::{mib, own_memory},
    served::{items, made, numbers, sum, take, take_bytes},
    soon,
};

use crate::{
    ALONE,
    fleet::{Fault, Fleet},
    load::{self, Numbers},
    number, server,
};

const MIB: u64 = 1 << 20;
/// The items of each stream under faults.
const ITEMS: u64 = 1_000;

/// The end of a stream.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    All,
    Failed(String),
}

/// Takes all items of a stream that returns numbers, and checks that they follow each other.
async fn download(client: Client, first: u64) -> End {
    let mut received = 0;
    let mut stream = numbers::call(&client, first, ITEMS);
    while let Some(item) = stream.next().await {
        match item {
            Ok(number) => {
                assert_eq!(number, first + received, "it is the next one");
                received += 1;
            }
            Err(error) => return failed(&error, received),
        }
    }
    assert_eq!(received, ITEMS);
    End::All
}

/// Passes numbers to a function that checks that they follow each other.
async fn upload(client: Client, first: u64) -> End {
    match take::call(&client, first, stream::iter(first..first + ITEMS)).await {
        Ok(taken) => {
            assert_eq!(taken, ITEMS);
            End::All
        }
        Err(CallError::Failed(error)) => panic!("{error}"),
        Err(CallError::Rpc(error)) => failed(&error, 0),
    }
}

fn failed(error: &RpcError, received: u64) -> End {
    if received > 0 {
        assert_eq!(error.ran(), Ran::Yes, "{error}");
        let count = format!("{received} items");
        let is_told = error.message().contains(&count) || error.kind() == ErrorKind::Panicked;
        assert!(is_told, "{received}: {error}");
    }
    End::Failed(format!("{:?}, {:?}", error.kind(), error.ran()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_with_all_items_or_a_true_error() {
    const AT_A_TIME: usize = 16;
    let _alone = ALONE.lock().await;
    let mut fleet = Fleet::start(2).await;
    let builder = tests::client().connect_timeout(Duration::from_secs(60));
    let builder = builder.stream_idle_timeout(Duration::from_secs(2));
    let client = builder.connect(fleet.endpoints()).await.unwrap();
    let (begin, streams) = (Instant::now(), Numbers::below(number("RPC_STREAMS", 2_000)));
    let calling = client.clone();
    let work = load::calls(&streams, AT_A_TIME, move |id| {
        let client = calling.clone();
        async move {
            if id.is_multiple_of(2) { download(client, id).await } else { upload(client, id).await }
        }
    });
    let (ends, faults) = fleet.run_with_faults(&Fault::ALL, work).await;
    let mut tally = BTreeMap::<_, u32>::new();
    for end in ends {
        *tally.entry(end).or_default() += 1;
    }
    println!("streams of {ITEMS} items, {:.1?}, {faults}: {tally:#?}", begin.elapsed());
    assert!(tally.get(&End::All).is_some_and(|all| *all > 0) && faults.count() > 0);
    soon("the client connects again", async { while sum::call(&client, 1, 2).await.is_err() {} })
        .await;
    fleet.end().await;
}

/// The memory of both sides together with what it was at first.
struct Memory {
    server: u64,
    client: u64,
}

impl Memory {
    fn now(server: &ServerProcess) -> Self {
        Self { server: server.memory(), client: own_memory() }
    }

    /// Returns by how much each side has grown.
    fn grown(&self, server: &ServerProcess) -> (u64, u64) {
        let now = Self::now(server);
        (now.server.saturating_sub(self.server), now.client.saturating_sub(self.client))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_reader_bounds_both_sides_and_ends_its_producer() {
    let _alone = ALONE.lock().await;
    let server = server(&[]);
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    sum::call(&client, 1, 2).await.unwrap();
    let before = Memory::now(&server);
    let mut stream = items::call(&client, 100, 10_000_000);
    let (begin, mut taken, mut most) = (Instant::now(), 0_u32, (0, 0));
    while begin.elapsed() < Duration::from_secs(5) {
        // A thousand a second.
        while taken < u32::try_from(begin.elapsed().as_millis()).unwrap() {
            assert_eq!(stream.next().await.unwrap().unwrap().len(), 100);
            taken += 1;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        if taken.is_multiple_of(100) {
            let grown = before.grown(&server);
            most = (most.0.max(grown.0), most.1.max(grown.1));
        }
    }
    drop(stream);
    let dropped = Instant::now();
    while made::call(&client).await.unwrap().1 > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (made, _) = made::call(&client).await.unwrap();
    println!(
        "a reader took {taken} of {made} items that were made; the server's memory grew by {}, the \
         client's by {}; the producer ended {:.1?} after the drop",
        mib(most.0),
        mib(most.1),
        dropped.elapsed(),
    );
    // The target is a second. Ten are allowed here, for a machine that does other things as well.
    assert!(dropped.elapsed() < Duration::from_secs(10));
    assert!(most.0 < 17 * MIB && most.1 < 17 * MIB, "{most:?}");
    // The items that were made and not taken are those of the window, and of the queues between.
    assert!(made < u64::from(taken) + 2 * MIB / 100, "{made}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_streams_cost_little_memory_and_no_worker() {
    const STREAMS: usize = 10_000;
    let _alone = ALONE.lock().await;
    let server = server(&[]);
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    sum::call(&client, 1, 2).await.unwrap();
    let before = Memory::now(&server);
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = items::call(&client, 100, u64::MAX);
        stream.next().await.unwrap().unwrap();
        streams.push(stream);
    }
    let begin = Instant::now();
    made::call(&client).await.unwrap();
    let answered = begin.elapsed();
    let (of_server, of_client) = before.grown(&server);
    println!(
        "{STREAMS} open streams: the server's memory grew by {}, the client's by {}; a call on a worker \
         was answered in {answered:.1?}",
        mib(of_server),
        mib(of_client),
    );
    assert!(answered < Duration::from_secs(1));
    let most = STREAMS as u64 * 64 * 1024;
    assert!(of_server < most && of_client < most, "{of_server} {of_client}");
    drop(streams);
    soon("all are dropped", async { while made::call(&client).await.unwrap().1 > 0 {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gigabytes_pass_in_both_directions() {
    const CHUNK: usize = 64 * 1024;
    let _alone = ALONE.lock().await;
    let bytes = number("RPC_STREAM_MIB", 1_024) * MIB;
    let count = bytes / CHUNK as u64;
    let server = server(&[]);
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    sum::call(&client, 1, 2).await.unwrap();
    let before = Memory::now(&server);
    let watch = async |most: &mut (u64, u64)| {
        loop {
            let grown = before.grown(&server);
            *most = (most.0.max(grown.0), most.1.max(grown.1));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (mut most, begin) = ((0, 0), Instant::now());
    let down = async {
        let mut stream = items::call(&client, CHUNK, count);
        let mut received = 0;
        while let Some(chunk) = stream.next().await {
            received += chunk.unwrap().len() as u64;
        }
        received
    };
    tokio::select! {
        received = down => assert_eq!(received, bytes),
        () = watch(&mut most) => {}
    }
    let (down, begin) = (begin.elapsed(), Instant::now());
    let chunk = Bytes::from(vec![7; CHUNK]);
    let chunks = stream::repeat(chunk).take(usize::try_from(count).unwrap());
    tokio::select! {
        taken = take_bytes::call(&client, chunks) => assert_eq!(taken.unwrap(), bytes),
        () = watch(&mut most) => {}
    }
    println!(
        "{} down in {down:.1?} and up in {:.1?}: the server's memory grew by {}, the client's by {}",
        mib(bytes),
        begin.elapsed(),
        mib(most.0),
        mib(most.1),
    );
    assert!(most.0 < 64 * MIB && most.1 < 64 * MIB, "{most:?}");
}

/// Returns requests for streams, and the messages that belong to them, of the calls 1 to 3.
fn seeds() -> Vec<Vec<u8>> {
    let all: [&[u8]; 10] = [
        b"\x95\x00\x01\xa5items\x81\xa6stream\xcd\x10\x00\x92\x64\xcd\xff\xff",
        b"\x95\x00\x02\xa7numbers\x81\xa6stream\xcd\x01\x00\x92\x05\xcd\xff\xff",
        b"\x94\x00\x03\xa4take\x92\x05\xc0",
        b"\x94\x00\x03\xaatake_bytes\x91\xc0",
        b"\x93\x02\xaarpc.credit\x92\x01\xcd\x10\x00",
        b"\x93\x02\xaarpc.credit\x92\x02\xcf\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x93\x02\xa8rpc.item\xdc\x00\x04\xce\x00\x00\x00\x03\x05\x06\x07",
        b"\x93\x02\xa8rpc.item\x92\x03\xc4\x04data",
        b"\x93\x02\xa8rpc.item\x91\x03",
        b"\x93\x02\xaarpc.cancel\x91\x03",
    ];
    all.map(<[u8]>::to_vec).into()
}

/// Sends stream messages, of which every other one is mutated, and reads what comes now and then.
async fn attack(endpoint: String, bodies: usize, seed: u64) {
    let seeds = seeds();
    let mut mutator = Mutator::new(seeds.clone(), seed);
    let mut peer = RawClient::connect(&endpoint).await;
    for number in 0..bodies {
        if number.is_multiple_of(2) {
            peer.send(&[b"", &seeds[number / 2 % seeds.len()]]).await;
        } else {
            peer.send(&[b"", &mutator.next_body()]).await;
        }
        if number % 100 == 99 {
            let answer = b"\x94\x01\xce\xff\xff\xff\xfe\xc0\x03";
            peer.send(&[b"", b"\x94\x00\xce\xff\xff\xff\xfe\xa3sum\x92\x01\x02"]).await;
            let is_there = |body: &Bytes| body.windows(answer.len()).any(|window| window == answer);
            while !is_there(peer.recv().await.last().expect("a frame")) {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_messages_of_streams_harm_nobody() {
    const CONNECTIONS: u64 = 20;
    let _alone = ALONE.lock().await;
    let bodies = usize::try_from(number("RPC_STREAM_BODIES", 10_000)).unwrap();
    let server = server(&["--max-message-size", "262144"]);
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    sum::call(&client, 1, 2).await.unwrap();
    let (before, begin) = (server.memory(), Instant::now());
    let endpoint: Arc<str> = server.endpoint().into();
    let attacks: Vec<_> = (0..CONNECTIONS)
        .map(|seed| tokio::spawn(attack(endpoint.to_string(), bodies, seed)))
        .collect();
    let mut good = 0;
    while !attacks.iter().all(tokio::task::JoinHandle::is_finished) {
        let all: Vec<_> = numbers::call(&client, 0, 100).collect().await;
        assert_eq!(all.len(), 100);
        assert_eq!(take::call(&client, 0, stream::iter(0..100)).await.unwrap(), 100);
        good += 2;
    }
    for attack in attacks {
        soon("an attack ends", attack).await.unwrap();
    }
    // The streams of the hostile peers end with their connections.
    soon("no stream is left", async {
        while made::call(&client).await.unwrap().1 > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let after = server.memory();
    println!(
        "{} messages of streams, half of them mutated, in {:.1?}: {good} good streams meanwhile; the \
         server's memory went from {} to {}",
        CONNECTIONS * bodies as u64,
        begin.elapsed(),
        mib(before),
        mib(after),
    );
    // What the peers have not read takes most of it, and does not grow with the number of messages.
    assert!(good > 0 && after < before + 160 * MIB, "{}", mib(after));
}
