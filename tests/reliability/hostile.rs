//! Bytes from hostile peers: millions of bodies for the decoders, and attacks on a server that good
//! clients use at the same time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use rpc_core::Client;
use tests::{
    RawClient, golden,
    mutate::Mutator,
    resources::{mib, open_files},
    served::{echo, sum},
    soon,
};

use crate::{ALONE, number, server};

/// Returns bodies that name functions of the server under test, so that a mutated body may still
/// reach a function.
fn seeds() -> Vec<Vec<u8>> {
    let requests: [&[u8]; 7] = [
        b"\x94\x00\x07\xa3sum\x92\x01\x02",
        b"\x95\x00\xce\x00\x00\x00\x07\xa3sum\x81\xaatimeout_ms\xcd\x03\xe8\x82\xa1b\x02\xa1a\x01",
        b"\x95\x00\x07\xa4echo\x82\xaatimeout_ms\xcd\x03\xe8\xa5trace\xa1t\x91\xc4\x04data",
        b"\x95\x00\x07\xa4echo\x82\xa3key\xa3abc\xaatimeout_ms\xcd\x03\xe8\x91\xc4\x04data",
        b"\x94\x00\x07\xa6double\x91\xcf\x00\x00\x00\x00\x00\x00\x00\x01",
        b"\x94\x00\x07\xa9rpc.hello\x91\x82\xa8protocol\x01\xb0max_message_size\xce\x01\x00\x00\x00",
        b"\x93\x02\xaarpc.cancel\x91\x07",
    ];
    let golden = golden::messages().into_iter().map(|(_, message)| message);
    golden.chain(requests.map(<[u8]>::to_vec)).collect()
}

fn decode_mutated(bodies: u64, seed: u64) {
    let begin = Instant::now();
    let mut mutator = Mutator::new(seeds(), seed);
    for number in 0..bodies {
        let body = mutator.next_body();
        let panicked = std::panic::catch_unwind(|| rpc_core::__fuzz::decode(&body)).is_err();
        assert!(!panicked, "RPC_SEED={seed}: body {number} is {body:02x?}");
    }
    let elapsed = begin.elapsed();
    println!(
        "{bodies} mutated bodies decoded in {elapsed:.1?}, seed {seed}: no panic, no broken invariant"
    );
    assert!(elapsed < Duration::from_secs(120 * (1 + bodies / 1_000_000)), "{elapsed:?}");
}

#[test]
fn a_million_mutated_bodies_break_no_decoder() {
    decode_mutated(1_000_000, number("RPC_SEED", 1));
}

#[test]
#[ignore = "long; run with: RPC_BODIES=100000000 cargo test --release -p tests --test reliability -- --ignored many_more_mutated --nocapture"]
fn many_more_mutated_bodies_break_no_decoder() {
    decode_mutated(number("RPC_BODIES", 100_000_000), number("RPC_SEED", 2));
}

/// Runs one hostile connection: sends bodies, reads the answers, and checks that the server still
/// serves the connection afterwards.
async fn attack(endpoint: String, bodies: usize, seed: u64) {
    const OVERSIZED: usize = 300_000;
    let mut mutator = Mutator::new(seeds(), seed);
    let mut peer = RawClient::connect(&endpoint).await;
    for number in 0..bodies {
        match number % 500 {
            // A body that is larger than the server accepts, once with a valid request header and
            // once without.
            0 => {
                let head = b"\x94\x00\x07\xa4echo\x91\xc6\x00\x04\x93\xe0".to_vec();
                peer.send(&[b"", &[head, vec![0; OVERSIZED]].concat()]).await;
            }
            1 => peer.send(&[b"", &vec![0xff; OVERSIZED]]).await,
            // Envelopes of several kinds, and surplus frames.
            2 => peer.send(&[b"x", b"y", b"", &mutator.next_body()]).await,
            3 => peer.send(&[b"", &mutator.next_body(), &mutator.next_body()]).await,
            4 => peer.send(&[&mutator.next_body()]).await,
            _ => peer.send(&[b"", &mutator.next_body()]).await,
        }
        if number % 100 == 99 {
            // Reads the answers, so that the test exercises the server's work and not its limit for
            // peers that do not read.
            let answer = b"\x94\x01\xce\xff\xff\xff\xfe\xc0\x03";
            peer.send(&[b"", b"\x94\x00\xce\xff\xff\xff\xfe\xa3sum\x92\x01\x02"]).await;
            // The answer may be alone or in a batch, because a mutated body may have been a hello
            // that offers batches.
            let is_there = |body: &Bytes| body.windows(answer.len()).any(|window| window == answer);
            while !is_there(peer.recv().await.last().expect("a frame")) {}
        }
    }
}

/// Makes good calls, eight at a time, until `others` has ended. Returns the number of calls.
async fn good_calls_during(client: &Client, others: impl Future<Output = ()>) -> u64 {
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (client, over) = (client.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut calls = 0;
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(
                        sum::call(&client, calls, 1).await.expect("it is answered"),
                        calls + 1
                    );
                    let data = Bytes::from(calls.to_be_bytes().to_vec());
                    assert_eq!(
                        echo::call(&client, data.clone()).await.expect("it is answered"),
                        data
                    );
                    calls += 2;
                }
                calls
            })
        })
        .collect();
    others.await;
    over.store(true, Ordering::Relaxed);
    let mut calls = 0;
    for caller in callers {
        calls += soon("a good caller ends", caller).await.expect("every good call is answered");
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_bodies_do_not_disturb_good_clients() {
    const CONNECTIONS: u64 = 50;
    const BODIES: usize = 2_000;
    let _alone = ALONE.lock().await;
    let server = server(&["--max-message-size", "262144"]);
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    sum::call(&client, 1, 2).await.unwrap();
    let (before, begin) = (server.memory(), Instant::now());
    let attacks: Vec<_> = (0..CONNECTIONS)
        .map(|seed| tokio::spawn(attack(server.endpoint().to_owned(), BODIES, seed)))
        .collect();
    let all = async {
        for attack in attacks {
            soon("an attack ends", attack).await.unwrap();
        }
    };
    let calls = good_calls_during(&client, all).await;
    let after = server.memory();
    println!(
        "{} hostile bodies from {CONNECTIONS} connections in {:.1?}: {calls} good calls meanwhile, all answered; the \
         server's memory went from {} to {}",
        CONNECTIONS * BODIES as u64,
        begin.elapsed(),
        mib(before),
        mib(after),
    );
    assert!(calls > 0);
    assert_eq!(sum::call(&client, 1, 2).await.unwrap(), 3);
    // Each connection has buffers in the engine, and each hostile body had at most 300 kB.
    assert!(after < before + (64 << 20), "{}", mib(after));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_connections_leave_nothing_behind() {
    // `PER_CONNECTION` is the memory that the engines are known to keep for each closed connection.
    // `NOISE` allows for buffers that are kept and for fragmentation.
    const PER_CONNECTION: u64 = 256;
    const NOISE: u64 = 16 << 20;
    let connections = number("RPC_CONNECTIONS", 10_000);
    let _alone = ALONE.lock().await;
    let server = server(&[]);
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let visit = async |count: u64| {
        let each = count / 10;
        let visitors: Vec<_> = (0..10)
            .map(|_| {
                let endpoint = server.endpoint().to_owned();
                tokio::spawn(async move {
                    for number in 0..each {
                        let mut peer = RawClient::connect(&endpoint).await;
                        // A third of the peers disconnect before they send anything, a third during
                        // a call, and a third after a hello.
                        match number % 3 {
                            0 => {}
                            1 => {
                                peer.send(&[b"", b"\x94\x00\x07\xa8sleep_ms\x91\xcd\x27\x10"])
                                    .await;
                            }
                            _ => drop(peer.ask(b"\x94\x00\x07\xa9rpc.hello\x91\x80").await),
                        }
                    }
                })
            })
            .collect();
        for visitor in visitors {
            soon("a visitor leaves", visitor).await.unwrap();
        }
        sum::call(&client, 1, 2).await.unwrap();
    };
    // These visits trigger all one-time allocations.
    visit(1_000).await;
    settled(server.pid(), 0).await;
    let (memory, files) = (server.memory(), open_files(server.pid()));
    let begin = Instant::now();
    visit(connections).await;
    let files_after = settled(server.pid(), files).await;
    let memory_after = server.memory();
    println!(
        "{connections} connections came and went in {:.1?}: the server's memory went from {} to {}, its open files \
         from {files} to {files_after}",
        begin.elapsed(),
        mib(memory),
        mib(memory_after),
    );
    assert!(memory_after < memory + connections * PER_CONNECTION + NOISE, "{}", mib(memory_after));
    assert!(files_after <= files + 5, "{files_after}");
    assert_eq!(sum::call(&client, 1, 2).await.unwrap(), 3);
}

/// Waits until a process has closed the files that it no longer needs. Ends when the process has at
/// most `few` open files, or when the number has not fallen for a while. Returns the number of open
/// files.
async fn settled(pid: u32, few: usize) -> usize {
    let (mut least, mut unchanged) = (open_files(pid), 0);
    while least > few && unchanged < 50 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = open_files(pid);
        unchanged = if now < least { 0 } else { unchanged + 1 };
        least = least.min(now);
    }
    least
}
