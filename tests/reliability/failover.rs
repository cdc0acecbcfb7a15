//! Three servers and one client, while faults occur at each server. Idempotent calls all succeed.
//! Calls that must not be repeated report correctly whether they ran. Calls with an idempotency key
//! run once, however often the client retried them.

use std::time::{Duration, Instant};

use rpc_core::Client;
use tests::served::{count, double_later};

use crate::{
    ALONE,
    chaos::{AT_A_TIME, Said, compare, duration},
    fleet::{Fault, Fleet},
    load::{self, Numbers},
    number,
};

const SERVERS: usize = 3;
/// The default number of calls that each test makes. `RPC_CALLS` overrides it.
const CALLS: u64 = 200_000;
const MANY_CALLS: u64 = 10_000_000;

/// Returns a client that soon notices an unresponsive server. Its calls have enough time for all
/// servers to fail and come back.
async fn client(fleet: &Fleet) -> Client {
    let patience = Duration::from_secs(60);
    let builder = tests::client().connect_timeout(patience).timeout(patience);
    builder
        .keepalive_timeout(Duration::from_millis(500))
        .retries(100)
        .connect(fleet.endpoints())
        .await
        .unwrap()
}

async fn idempotent(calls: u64) {
    let _alone = ALONE.lock().await;
    let mut fleet = Fleet::start(SERVERS).await;
    let client = client(&fleet).await;
    let (begin, numbers) = (Instant::now(), Numbers::below(calls));
    let work = load::calls(&numbers, AT_A_TIME, move |n| {
        let client = client.clone();
        async move {
            let begin = Instant::now();
            let answer = double_later::call(&client, n, duration(n)).await;
            let answer = answer
                .unwrap_or_else(|error| panic!("call {n} failed: {error:#} ({:?})", error.ran()));
            assert_eq!(answer, 2 * n);
            begin.elapsed()
        }
    });
    let (mut took, faults) = fleet.run_with_faults(&Fault::ALL, work).await;
    took.sort_unstable();
    println!(
        "{} idempotent calls in {:.1?} with {faults}: all answered, and right; p50 {:.1?}, p99 {:.1?}, the longest {:.1?}",
        took.len(),
        begin.elapsed(),
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        took[took.len() - 1],
    );
    assert!(faults.count() > 0);
    fleet.end().await;
}

async fn counted(calls: u64) {
    let _alone = ALONE.lock().await;
    let mut fleet = Fleet::start(SERVERS).await;
    let client = client(&fleet).await;
    let (begin, numbers) = (Instant::now(), Numbers::below(calls));
    let work = load::calls(&numbers, AT_A_TIME, move |id| {
        let client = client.clone();
        async move { Said::of(id, count::call(&client, id, duration(id)).await) }
    });
    let (said, faults) = fleet.run_with_faults(&Fault::ALL, work).await;
    println!("calls that may run only once, {:.1?}, {faults}", begin.elapsed());
    let ledger = fleet.end().await;
    compare("three servers", &said, &ledger.executions());
    assert!(said.iter().any(|(_, said)| *said == Said::Ok) && faults.count() > 0);
}

async fn keyed(calls: u64) {
    let _alone = ALONE.lock().await;
    let mut fleet = Fleet::start(SERVERS).await;
    let client = client(&fleet).await;
    let (begin, numbers) = (Instant::now(), Numbers::below(calls));
    let work = load::calls(&numbers, AT_A_TIME, move |id| {
        let client = client.clone();
        async move {
            let call = count::call(&client, id, duration(id)).idempotency_key(format!("call {id}"));
            Said::of(id, call.await)
        }
    });
    let (said, faults) = fleet.run_with_faults(&Fault::ALL, work).await;
    println!("calls with an idempotency key, {:.1?}, {faults}", begin.elapsed());
    let ledger = fleet.end().await;
    compare("idempotency keys", &said, &ledger.executions());
    assert!(said.iter().any(|(_, said)| *said == Said::Ok) && faults.count() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idempotent_calls_all_succeed() {
    idempotent(number("RPC_CALLS", CALLS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn non_idempotent_calls_report_ran_correctly() {
    counted(number("RPC_CALLS", CALLS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_with_an_idempotency_key_run_once() {
    keyed(number("RPC_CALLS", CALLS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; run with: cargo test --release -p tests --test reliability -- --ignored --nocapture long_chaos"]
async fn long_chaos_breaks_nothing() {
    let calls = number("RPC_CALLS", MANY_CALLS);
    idempotent(calls).await;
    counted(calls).await;
    keyed(calls).await;
}
