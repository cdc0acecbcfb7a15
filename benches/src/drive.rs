//! The load generator in the client's process: makes calls and measures them.

use std::{
    collections::HashMap,
    future::Future,
    io::{self, BufRead as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    Failure,
    work::{Function, Input, Output, Work},
};

/// The sampling interval: if several calls are in flight, or for items of a stream, the latency of
/// one in this many is measured. Reading the clock costs as much as a tenth of a call.
const SAMPLED: u64 = 32;

/// The load of one turn.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    function: Function,
    pub(crate) input: Input,
    pub(crate) window: usize,
    sampled: u64,
    over: Arc<AtomicBool>,
}

impl Load {
    fn new(work: Work) -> Self {
        let is_stream = matches!(work.function, Function::Items(_));
        let sampled = if work.window * work.clients == 1 && !is_stream { 1 } else { SAMPLED };
        Self {
            function: work.function,
            input: work.input(),
            window: work.window,
            sampled,
            over: Arc::default(),
        }
    }

    /// Returns true once the time of the turn is up and no more calls are to be made.
    pub(crate) fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Returns true if a call is sampled: its latency is measured, and its result is compared byte
    /// by byte. `call` counts the calls of one caller.
    pub(crate) fn samples(&self, call: u64) -> bool {
        call.is_multiple_of(self.sampled)
    }
}

/// The number of calls in a turn, and the latencies of the sampled ones.
#[derive(Debug, Default)]
pub(crate) struct Sampled {
    pub(crate) calls: u64,
    pub(crate) latencies: Vec<Duration>,
}

/// A connection that keeps a window of calls in flight.
pub(crate) trait Connection: Send + 'static {
    /// Makes calls until the load is over.
    fn run(&mut self, load: Load) -> impl Future<Output = Result<Sampled, Failure>> + Send;
}

/// A client of a framework.
pub(crate) trait Caller: Clone + Send + Sync + 'static {
    fn echo(&self, data: Bytes) -> impl Future<Output = Result<Bytes, Failure>> + Send;
    fn count_words(
        &self,
        text: &'static str,
    ) -> impl Future<Output = Result<HashMap<String, u64>, Failure>> + Send;

    /// Takes the items of one stream, until `take` returns false.
    fn items(
        &self,
        bytes: usize,
        take: impl FnMut(Bytes) -> Result<bool, Failure> + Send,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = (bytes, take);
        async { Err("it has no streams".into()) }
    }
}

/// A connection with one calling task for each call in flight.
pub(crate) struct Tasks<C>(pub(crate) C);

impl<C: Caller> Connection for Tasks<C> {
    async fn run(&mut self, load: Load) -> Result<Sampled, Failure> {
        let mut tasks = JoinSet::new();
        for _ in 0..load.window {
            tasks.spawn(call_on(self.0.clone(), load.clone()));
        }
        join(tasks).await
    }
}

async fn call_on(caller: impl Caller, load: Load) -> Result<Sampled, Failure> {
    let mut sampled = Sampled::default();
    if let Function::Items(bytes) = load.function {
        let mut start = Some(Instant::now());
        let take = |item| {
            sampled.latencies.extend(start.map(|start| start.elapsed()));
            load.input.check(&Output::Data(item), start.is_some())?;
            sampled.calls += 1;
            start = load.samples(sampled.calls).then(Instant::now);
            Ok(!load.over())
        };
        caller.items(bytes, take).await?;
        return Ok(sampled);
    }
    while !load.over() {
        let start = load.samples(sampled.calls).then(Instant::now);
        let output = match &load.input {
            Input::Data(data) => Output::Data(caller.echo(data.clone()).await?),
            Input::Text(text) => Output::Counts(caller.count_words(text).await?),
        };
        sampled.latencies.extend(start.map(|start| start.elapsed()));
        load.input.check(&output, start.is_some())?;
        sampled.calls += 1;
    }
    Ok(sampled)
}

async fn join(mut tasks: JoinSet<Result<Sampled, Failure>>) -> Result<Sampled, Failure> {
    let mut all = Sampled::default();
    while let Some(sampled) = tasks.join_next().await {
        let sampled = sampled??;
        all.calls += sampled.calls;
        all.latencies.extend(sampled.latencies);
    }
    Ok(all)
}

/// The result of a turn, as the client's process reports it. All times are in seconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) calls: u64,
    pub(crate) took: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Opens the connections, prints `connected`, and runs one turn for each line of stdin. A line
/// holds the duration of the turn in seconds.
pub(crate) async fn drive<C: Connection>(
    work: Work,
    connect: impl AsyncFn() -> Result<C, Failure>,
) -> Result<(), Failure> {
    let mut connections = Vec::new();
    for _ in 0..work.clients {
        connections.push(connect().await?);
    }
    let mut lines = lines();
    println!("connected");
    io::stdout().flush()?;
    while let Some(line) = lines.recv().await {
        let turn =
            turn(&mut connections, work, Duration::from_secs_f64(line.trim().parse()?)).await?;
        println!("{}", serde_json::to_string(&turn)?);
        io::stdout().flush()?;
    }
    Ok(())
}

/// Returns the lines of stdin. A separate thread reads them, because connections on this runtime
/// must make progress in the meantime.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, lines) = mpsc::unbounded_channel();
    thread::spawn(move || {
        io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    lines
}

/// Runs one turn on all connections.
async fn turn<C: Connection>(
    connections: &mut Vec<C>,
    work: Work,
    time: Duration,
) -> Result<Sample, Failure> {
    let load = Load::new(work);
    let mut running = JoinSet::new();
    let start = Instant::now();
    let over = Arc::clone(&load.over);
    // A thread keeps the time, because a timer may fire late on a runtime that is busy with calls.
    thread::spawn(move || {
        thread::sleep(time);
        over.store(true, Ordering::Relaxed);
    });
    for mut connection in connections.drain(..) {
        let load = load.clone();
        running.spawn(async move {
            let sampled = connection.run(load).await;
            (connection, sampled)
        });
    }
    let mut all = Sampled::default();
    while let Some(ended) = running.join_next().await {
        let (connection, sampled) = ended?;
        let sampled = sampled?;
        all.calls += sampled.calls;
        all.latencies.extend(sampled.latencies);
        connections.push(connection);
    }
    let took = start.elapsed().as_secs_f64();
    all.latencies.sort_unstable();
    let (p50, p99) = (percentile(&all.latencies, 50), percentile(&all.latencies, 99));
    Ok(Sample { calls: all.calls, took, p50, p99 })
}

/// Returns a percentile of sorted latencies, in seconds.
fn percentile(latencies: &[Duration], percent: usize) -> f64 {
    let at = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
    latencies.get(at).copied().unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_one_of_the_latencies() {
        let latencies: Vec<_> = (1..=100).map(Duration::from_secs).collect();
        assert!((percentile(&latencies, 50) - 51.0).abs() < f64::EPSILON);
        assert!((percentile(&latencies, 99) - 100.0).abs() < f64::EPSILON);
        assert!(percentile(&[], 99).abs() < f64::EPSILON);
    }
}
