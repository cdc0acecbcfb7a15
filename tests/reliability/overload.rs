//! Five times as much load as a server can handle. The server continues at full capacity, with the
//! latency that its limits imply, and refuses the rest at once.

use std::time::{Duration, Instant};

use rpc_core::{Call, Client, ErrorKind, Ran, RemoteFn, RpcError, WhenFull};
use tests::{
    resources::mib,
    served::{block_ms, sleep_ms},
    soon,
};
use tokio::{task::JoinSet, time};

use crate::{ALONE, server};

/// The ratio of offered load to capacity.
const FACTOR: u32 = 5;
const DURATION: Duration = Duration::from_secs(10);
/// The maximum number of attempts.
const ROUNDS: u32 = 3;

/// The arguments of a server, and the capacity that follows from its limits.
struct Capacity {
    arguments: &'static [&'static str],
    /// The number of calls that run at once, the number that may wait in the queue, and the
    /// duration of each call.
    running: u32,
    waiting: u32,
    each: Duration,
}

impl Capacity {
    /// Returns the capacity in calls per second.
    fn rate(&self) -> u32 {
        self.running * 1_000 / u32::try_from(self.each.as_millis()).expect("it is short")
    }

    /// Returns the latency of a call that takes the last place in the queue.
    fn longest(&self) -> Duration {
        self.each * (self.running + self.waiting) / self.running
    }
}

/// The latencies of the answered calls and of the refused calls.
#[derive(Default)]
struct Outcomes {
    answered: Vec<Duration>,
    refused: Vec<Duration>,
}

impl Outcomes {
    fn add(&mut self, (outcome, took): (Result<(), RpcError>, Duration)) {
        let Err(error) = outcome else { return self.answered.push(took) };
        assert_eq!((error.kind(), error.ran()), (ErrorKind::Overloaded, Ran::No), "{error}");
        self.refused.push(took);
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}

/// Makes `rate` calls per second, whatever their outcomes, and waits for all of them.
async fn offer<F>(rate: u32, duration: Duration, call: impl Fn() -> Call<F>) -> Outcomes
where
    F: RemoteFn<Output = (), Error = RpcError> + 'static,
{
    let (mut calls, mut outcomes) = (JoinSet::new(), Outcomes::default());
    let mut tick = time::interval(Duration::from_millis(1));
    let (begin, mut made) = (Instant::now(), 0_usize);
    while begin.elapsed() < duration {
        tick.tick().await;
        let due = begin.elapsed().as_micros() * u128::from(rate) / 1_000_000;
        while (made as u128) < due {
            let call = call();
            made += 1;
            calls.spawn(async move {
                let begin = Instant::now();
                (call.await, begin.elapsed())
            });
        }
        while let Some(ended) = calls.try_join_next() {
            outcomes.add(ended.expect("a call does not panic"));
        }
    }
    while let Some(ended) = soon("calls end", calls.join_next()).await {
        outcomes.add(ended.expect("a call does not panic"));
    }
    outcomes
}

async fn overload<F>(what: &str, capacity: &Capacity, call: impl Fn(&Client) -> Call<F>)
where
    F: RemoteFn<Output = (), Error = RpcError> + 'static,
{
    let server = server(capacity.arguments);
    // The client keeps no call waiting and does not retry, so that the test sees every refusal.
    let client = tests::client().retries(0).when_full(WhenFull::Fail);
    let client = client.connect(server.endpoint()).await.unwrap();
    let call = || call(&client);
    let offered = capacity.rate() * FACTOR;
    offer(offered, Duration::from_secs(1), &call).await;

    // Other work on this machine can only make the result look worse. The best of a few rounds
    // therefore shows the capacity of the server.
    for round in 1.. {
        let before = server.memory();
        let mut outcomes = offer(offered, DURATION, &call).await;
        let after = server.memory();
        assert!(after < before + (8 << 20), "{}", mib(after));
        assert!(!outcomes.refused.is_empty());
        outcomes.answered.sort_unstable();
        outcomes.refused.sort_unstable();
        let possible = f64::from(capacity.rate()) * DURATION.as_secs_f64();
        #[allow(clippy::cast_precision_loss)] // There are some ten thousand calls.
        let part = outcomes.answered.len() as f64 / possible;
        let (answered, refused) =
            (percentile(&outcomes.answered, 99), percentile(&outcomes.refused, 99));
        println!(
            "{what}: {offered} calls/s offered for {DURATION:?} where {} are possible: {} answered ({:.0} % of what \
             is possible) in {answered:.1?} (p99; the limits imply {:.1?}), {} refused in {refused:.1?} (p99); the \
             server's memory went from {} to {}",
            capacity.rate(),
            outcomes.answered.len(),
            100.0 * part,
            capacity.longest(),
            outcomes.refused.len(),
            mib(before),
            mib(after),
        );
        // The bound is twice the implied latency, for the same reason. Without limits the latency
        // would be half a minute.
        if part >= 0.9 && answered < 2 * capacity.longest() {
            return;
        }
        assert!(round < ROUNDS, "{part}, {answered:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn async_functions_go_on_at_full_capacity() {
    let _alone = ALONE.lock().await;
    let each = Duration::from_millis(100);
    // The server reserves a sixteenth of `max_in_flight` for other clients.
    let capacity =
        Capacity { arguments: &["--max-in-flight", "214"], running: 200, waiting: 0, each };
    overload("async functions", &capacity, |client| sleep_ms::call(client, 100)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_go_on_at_full_capacity() {
    let _alone = ALONE.lock().await;
    let arguments = &["--workers", "16", "--max-waiting", "64"];
    let capacity =
        Capacity { arguments, running: 16, waiting: 64, each: Duration::from_millis(20) };
    overload("workers", &capacity, |client| block_ms::call(client, 20)).await;
}
