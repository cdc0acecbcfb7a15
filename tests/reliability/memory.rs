//! Memory and files are given back. After millions of calls, and after many calls that were
//! cancelled or timed out, both sides use as much as before.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rpc_core::{Client, ErrorKind};
use tests::{
    PATIENCE,
    process::ServerProcess,
    resources::{mib, open_files, own_memory},
    served::{REFUSED, count, double, sleep_ms, sum},
    soon,
};

use crate::{
    ALONE,
    load::{self, Numbers},
    server,
};

/// The memory of the server and of the client.
#[derive(Debug, Clone, Copy)]
struct Memory {
    server: u64,
    client: u64,
}

impl Memory {
    fn now(server: &ServerProcess) -> Self {
        Self { server: server.memory(), client: own_memory() }
    }

    /// Prints how the memory changed. Fails the test if either side grew by more than a tenth or 8
    /// MiB, whichever is larger.
    fn check(self, server: &ServerProcess, what: &str, begin: Instant) {
        let after = Self::now(server);
        println!(
            "{what} in {:.1?}: the server's memory went from {} to {}, the client's from {} to {}",
            begin.elapsed(),
            mib(self.server),
            mib(after.server),
            mib(self.client),
            mib(after.client),
        );
        for (before, after) in [(self.server, after.server), (self.client, after.client)] {
            assert!(
                after <= before + (before / 10).max(8 << 20),
                "{} became {}",
                mib(before),
                mib(after)
            );
        }
    }
}

/// Makes `count` calls, 256 at a time. `one` makes the call with the given number.
async fn calls<F: Future<Output = ()> + Send>(
    count: u64,
    one: impl Fn(u64) -> F + Clone + Send + 'static,
) {
    load::calls(&Numbers::below(count), 256, one).await;
}

async fn answered(client: &Client, count: u64) {
    let client = client.clone();
    calls(count, move |number| {
        let client = client.clone();
        async move {
            if number % 2 == 0 {
                assert_eq!(
                    sum::call(&client, number, 1).await.expect("it is answered"),
                    number + 1
                );
            } else {
                assert_eq!(
                    double::call(&client, number).await.expect("it is answered"),
                    Some(2 * number)
                );
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_million_calls_leave_nothing_behind() {
    let _alone = ALONE.lock().await;
    let server = server(&[]);
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    answered(&client, 100_000).await;
    let (before, begin) = (Memory::now(&server), Instant::now());
    answered(&client, 1_900_000).await;
    before.check(&server, "1,900,000 calls after the first 100,000", begin);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_calls_leave_nothing_behind() {
    async fn cancelled(client: &Client, count: u64) {
        let client = client.clone();
        calls(count, move |number| {
            let client = client.clone();
            async move {
                let mut call = sleep_ms::call(&client, 3_600_000);
                // Some calls are dropped before they are sent, others after the server has them.
                let polled = async { tokio::time::timeout(Duration::ZERO, &mut call).await };
                assert!(polled.await.is_err(), "it takes an hour");
                if number % 2 == 0 {
                    client.ping().await.expect("it is answered");
                }
            }
        })
        .await;
    }
    let _alone = ALONE.lock().await;
    let server = server(&[]);
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    cancelled(&client, 20_000).await;
    answered(&client, 20_000).await;
    let (before, begin) = (Memory::now(&server), Instant::now());
    cancelled(&client, 100_000).await;
    before.check(&server, "100,000 cancelled calls", begin);
    // The cancelled calls were far more than the server accepts at once. The next calls succeed
    // only if no cancelled call still counts as in flight.
    answered(&client, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timed_out_calls_leave_nothing_behind() {
    async fn timed_out(client: &Client, count: u64) {
        let client = client.clone();
        calls(count, move |_| {
            let client = client.clone();
            async move {
                let call = sleep_ms::call(&client, 3_600_000).timeout(Duration::from_millis(10));
                let error = soon("the time runs out", call).await.expect_err("it takes an hour");
                assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
            }
        })
        .await;
    }
    let _alone = ALONE.lock().await;
    let server = server(&[]);
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    timed_out(&client, 20_000).await;
    answered(&client, 20_000).await;
    let (before, begin) = (Memory::now(&server), Instant::now());
    timed_out(&client, 100_000).await;
    before.check(&server, "100,000 calls that timed out", begin);
    answered(&client, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idempotency_keys_use_bounded_memory() {
    async fn with_a_key(client: &Client, round: u64, calls_made: u64) {
        let client = client.clone();
        calls(calls_made, move |number| {
            // No id here is divisible by `REFUSED`, so no call is refused.
            let id = number * REFUSED + 1;
            let call = count::call(&client, id, 0).idempotency_key(format!("{round}-{number}"));
            async move { assert_eq!(call.await.expect("it is answered"), id) }
        })
        .await;
    }
    let _alone = ALONE.lock().await;
    let server = server(&[]);
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    // More keys than the server's reply cache holds at once.
    with_a_key(&client, 0, 30_000).await;
    let (before, begin) = (Memory::now(&server), Instant::now());
    with_a_key(&client, 1, 200_000).await;
    before.check(&server, "200,000 calls with an idempotency key", begin);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_lived_clients_leave_nothing_behind() {
    async fn come_and_go(server: &ServerProcess, count: u64) {
        let endpoint: Arc<str> = server.endpoint().into();
        let visits: Vec<_> = (0..8)
            .map(|_| {
                let endpoint = Arc::clone(&endpoint);
                tokio::spawn(async move {
                    for number in 0..count / 8 {
                        let client =
                            tests::client().connect(&*endpoint).await.expect("the server is there");
                        assert_eq!(
                            sum::call(&client, number, 1).await.expect("it is answered"),
                            number + 1
                        );
                        // Half of the clients close in order, and the other half are dropped.
                        if number % 2 == 0 {
                            client.close().await;
                        }
                    }
                })
            })
            .collect();
        for visit in visits {
            soon("the clients come and go", visit).await.expect("no call fails");
        }
    }
    let _alone = ALONE.lock().await;
    let server = server(&[]);
    // This client stays connected and keeps the clients' I/O thread alive.
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    come_and_go(&server, 400).await;
    let files = few_files(&server, 0).await;
    let (before, begin) = (Memory::now(&server), Instant::now());
    come_and_go(&server, 2_000).await;
    before.check(&server, "2,000 clients that came and went", begin);
    let after = few_files(&server, files).await;
    assert!(after <= files + 5, "{files} open files became {after}");
    answered(&client, 1_000).await;
}

/// Waits until at most `limit` files are open, or until the number no longer changes. Returns the
/// number of open files.
async fn few_files(server: &ServerProcess, limit: usize) -> usize {
    let patience = Instant::now() + PATIENCE;
    let mut files = open_files(server.pid());
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = open_files(server.pid());
        if now <= limit || now == files || Instant::now() > patience {
            return now;
        }
        files = now;
    }
}
