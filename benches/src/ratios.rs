//! The ratios between contestants that have a target. They tell whether the library is fast enough.

use crate::{
    contestant::{Carrier, Contestant, Execution, Kind, Threads},
    results::{Measured, Metric, Results, extremes, median},
    words::{self, WordsRound},
    work::{KIB, MIB, Work, size_of},
};

/// The bound that a ratio should keep.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    /// Returns true if the value keeps the bound.
    pub(crate) fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// A ratio, or a plain figure, that has a target.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    /// The description of the ratio in the report.
    pub(crate) what: String,
    /// The ratio of the medians.
    pub(crate) value: f64,
    /// The lowest and the highest ratio of a single round.
    pub(crate) range: Option<(f64, f64)>,
    pub(crate) unit: &'static str,
    pub(crate) target: Target,
}

const INLINE: Contestant = Contestant::rpc(Execution::Inline, Threads::Two);
const INLINE_CT: Contestant = Contestant::rpc(Execution::Inline, Threads::One);
const BLOCKING: Contestant = Contestant::rpc(Execution::Blocking, Threads::Two);
const ASYNC: Contestant = Contestant::rpc(Execution::Async, Threads::Two);
const COPY: Contestant = Contestant { kind: Kind::Copy, threads: Threads::Two };
const TARPC: Contestant = Contestant::tarpc();
const TONIC: Contestant = Contestant::tonic();
const FLOOR: Contestant = Contestant::floor(Threads::Two);
const AMQP: Contestant = Contestant::over(Carrier::Amqp);
const AMQP_PACKED: Contestant = Contestant::over(Carrier::AmqpPacked);
const LAPIN: Contestant = Contestant { kind: Kind::Lapin, threads: Threads::One };
const PIKA: Contestant = Contestant { kind: Kind::Pika, threads: Threads::One };
const FLOOR_CT: Contestant = Contestant::floor(Threads::One);

/// Returns the ratios whose contestants were measured.
pub(crate) fn judge(results: &Results) -> Vec<Judged> {
    use Metric::{CallsPerSecond, Cpu, P50};
    use Target::{AtLeast, AtMost};

    let echo = |window| Work::echo(64, window);
    let count = Work::count_words;
    let many = Work::MANY_CLIENTS;
    let items = |streams| Work::items(64, streams);
    let chunks = Work::items(64 * KIB, 1);
    let rows = [
        (echo(64), CallsPerSecond, INLINE, TARPC, AtLeast(1.9)),
        (echo(1024), CallsPerSecond, INLINE, TARPC, AtLeast(2.8)),
        (echo(64), CallsPerSecond, INLINE, TONIC, AtLeast(5.0)),
        (echo(1024), CallsPerSecond, INLINE, TONIC, AtLeast(10.0)),
        (echo(64), CallsPerSecond, INLINE, FLOOR, AtLeast(1.0)),
        (echo(1024), CallsPerSecond, INLINE, FLOOR, AtLeast(1.0)),
        (echo(64), CallsPerSecond, INLINE_CT, FLOOR_CT, AtLeast(0.9)),
        (echo(1024), CallsPerSecond, INLINE_CT, FLOOR_CT, AtLeast(0.9)),
        (echo(64), CallsPerSecond, BLOCKING, TARPC, AtLeast(1.6)),
        (echo(1024), CallsPerSecond, BLOCKING, TARPC, AtLeast(2.0)),
        (count(64), CallsPerSecond, BLOCKING, TARPC, AtLeast(1.3)),
        (count(1024), CallsPerSecond, BLOCKING, TARPC, AtLeast(1.6)),
        (echo(1), P50, INLINE_CT, FLOOR_CT, AtMost(1.0)),
        (echo(1), P50, INLINE_CT, TARPC, AtMost(1.15)),
        (echo(1), P50, INLINE, TARPC, AtMost(1.4)),
        (echo(1), P50, BLOCKING, INLINE, AtMost(1.3)),
        (Work::echo(MIB, 8), CallsPerSecond, INLINE, FLOOR, AtLeast(0.9)),
        (Work::echo(MIB, 8), CallsPerSecond, INLINE_CT, FLOOR_CT, AtLeast(0.9)),
        (many, CallsPerSecond, INLINE, FLOOR, AtLeast(0.9)),
        (many, CallsPerSecond, INLINE_CT, FLOOR_CT, AtLeast(0.9)),
        (items(1), CallsPerSecond, BLOCKING, TONIC, AtLeast(3.0)),
        (items(1), CallsPerSecond, ASYNC, TONIC, AtLeast(3.0)),
        (items(64), CallsPerSecond, BLOCKING, TONIC, AtLeast(3.0)),
        (items(64), CallsPerSecond, ASYNC, TONIC, AtLeast(3.0)),
        (chunks, CallsPerSecond, BLOCKING, TONIC, AtLeast(1.0)),
        (chunks, CallsPerSecond, ASYNC, TONIC, AtLeast(1.0)),
        (chunks, CallsPerSecond, BLOCKING, COPY, AtLeast(0.7)),
        (chunks, CallsPerSecond, ASYNC, COPY, AtLeast(0.7)),
        (echo(1024), Cpu, INLINE, TARPC, AtMost(0.4)),
        (echo(64), CallsPerSecond, AMQP, LAPIN, AtLeast(0.8)),
        (echo(1024), CallsPerSecond, AMQP, LAPIN, AtLeast(0.8)),
        (echo(64), CallsPerSecond, AMQP, PIKA, AtLeast(5.0)),
        (echo(1024), CallsPerSecond, AMQP, PIKA, AtLeast(5.0)),
        (echo(1024), CallsPerSecond, AMQP_PACKED, LAPIN, AtLeast(6.0)),
    ];
    let mut judged: Vec<_> = rows
        .into_iter()
        .filter_map(|(work, metric, ours, theirs, target)| {
            let (ours, theirs) = (results.of(work, ours)?, results.of(work, theirs)?);
            Some(ratio(metric, ours, theirs, target))
        })
        .collect();
    judged.extend(results.of(many, INLINE).map(|measured| Judged {
        what: format!("{}: server memory per client, {}", many.title(), INLINE.name()),
        value: measured.server_memory_per_client() / 1024.0,
        range: None,
        unit: " KiB",
        target: AtMost(64.0),
    }));
    judged.extend(of_words(results, AtMost(0.6)));
    judged
}

fn ratio(metric: Metric, ours: &Measured, theirs: &Measured, target: Target) -> Judged {
    let what = match metric {
        Metric::CallsPerSecond => "calls/s",
        Metric::P50 => "p50",
        Metric::P99 => "p99",
        Metric::ClientCpu | Metric::ServerCpu | Metric::Cpu => "CPU time per call",
        Metric::ClientKernel | Metric::ServerKernel => "kernel CPU time per call",
    };
    let pairs = ours.rounds.iter().zip(&theirs.rounds);
    Judged {
        what: format!(
            "{}: {what}, {} / {}",
            ours.work.title(),
            ours.contestant.name(),
            theirs.contestant.name()
        ),
        value: ours.median(metric) / theirs.median(metric),
        range: Some(extremes(
            pairs.map(|(ours, theirs)| ours.metric(metric) / theirs.metric(metric)).collect(),
        )),
        unit: "",
        target,
    }
}

/// Returns the ratio for the long text, in its larger chunks. With the smaller chunks, returning
/// the words would be most of the work.
fn of_words(results: &Results, target: Target) -> Option<Judged> {
    if results.words.is_empty() {
        return None;
    }
    let last = words::CHUNKS.len() - 1;
    let of = |time: &dyn Fn(&WordsRound) -> f64| results.words.iter().map(time).collect();
    Some(Judged {
        what: format!(
            "count_words of 50 MB: wall-clock time, rpc-pool with two workers, {} per call / \
             plain loop on one core",
            size_of(words::CHUNKS[last])
        ),
        value: median(of(&|round| round.calls[last].wall)) / median(of(&|round| round.plain.wall)),
        range: Some(extremes(of(&|round| round.calls[last].wall / round.plain.wall))),
        unit: "",
        target,
    })
}
