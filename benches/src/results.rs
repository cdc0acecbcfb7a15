//! The results of the measurements, and the statistics over them: medians and spreads.

use std::ops::Sub;

use crate::{contestant::Contestant, drive::Sample, words::WordsRound, work::Work};

/// The results of one turn of a contestant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) turn: Sample,
    pub(crate) client: Used,
    pub(crate) server: Used,
}

/// The CPU time that a process used, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// The time in user code and in the kernel.
    pub(crate) cpu: f64,
    /// The part of `cpu` that was spent in the kernel.
    pub(crate) kernel: f64,
}

impl Sub for Used {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { cpu: self.cpu - before.cpu, kernel: self.kernel - before.kernel }
    }
}

/// The results of a contestant at one work. Memory is in bytes.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) work: Work,
    pub(crate) contestant: Contestant,
    pub(crate) rounds: Vec<Round>,
    /// The memory of the server before a client had connected.
    pub(crate) server_at_first: u64,
    /// The peak memory of the server.
    pub(crate) server_peak: u64,
    /// The peak memory of the client's process.
    pub(crate) client_peak: u64,
}

/// The results of all measurements.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) measured: Vec<Measured>,
    pub(crate) words: Vec<WordsRound>,
}

impl Results {
    /// Returns the results of a contestant at a work, if it was measured.
    pub(crate) fn of(&self, work: Work, contestant: Contestant) -> Option<&Measured> {
        self.measured
            .iter()
            .find(|measured| measured.work == work && measured.contestant == contestant)
    }
}

/// A figure that contestants are compared by. Times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    /// The number of calls per second.
    CallsPerSecond,
    /// The median latency of a call.
    P50,
    /// The latency that 99 % of the calls do not exceed.
    P99,
    /// The client's CPU time per call.
    ClientCpu,
    /// The server's CPU time per call.
    ServerCpu,
    /// The CPU time of both processes per call.
    Cpu,
    /// The client's CPU time in the kernel per call.
    ClientKernel,
    /// The server's CPU time in the kernel per call.
    ServerKernel,
}

impl Round {
    /// Returns a metric of this turn.
    pub(crate) fn metric(&self, metric: Metric) -> f64 {
        let calls = float(self.turn.calls);
        match metric {
            Metric::CallsPerSecond => calls / self.turn.took,
            Metric::P50 => self.turn.p50,
            Metric::P99 => self.turn.p99,
            Metric::ClientCpu => self.client.cpu / calls,
            Metric::ServerCpu => self.server.cpu / calls,
            Metric::Cpu => (self.client.cpu + self.server.cpu) / calls,
            Metric::ClientKernel => self.client.kernel / calls,
            Metric::ServerKernel => self.server.kernel / calls,
        }
    }
}

impl Measured {
    /// Returns the median of a metric over all rounds.
    pub(crate) fn median(&self, metric: Metric) -> f64 {
        median(self.values(metric))
    }

    /// Returns half of the distance from the lowest to the highest value, as a fraction of the
    /// median.
    pub(crate) fn spread(&self, metric: Metric) -> f64 {
        let (lowest, highest) = extremes(self.values(metric));
        (highest - lowest) / 2.0 / self.median(metric)
    }

    fn values(&self, metric: Metric) -> Vec<f64> {
        self.rounds.iter().map(|round| round.metric(metric)).collect()
    }

    /// Returns the bytes of server memory that each client has cost.
    pub(crate) fn server_memory_per_client(&self) -> f64 {
        float(self.server_peak.saturating_sub(self.server_at_first))
            / float(self.work.clients as u64)
    }
}

/// Returns the median. For an even number of values, it is the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (length, half) if length.is_multiple_of(2) => f64::midpoint(values[half - 1], values[half]),
        (_, half) => values[half],
    }
}

/// Returns the lowest and the highest value.
pub(crate) fn extremes(values: Vec<f64>) -> (f64, f64) {
    let mut extremes = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        extremes = (extremes.0.min(value), extremes.1.max(value));
    }
    extremes
}

/// Converts an integer to a float. No count or size here comes near 2^53, so none loses precision.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn float(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_in_the_middle() {
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 9.0, 1.0, 2.0]) - 3.0).abs() < f64::EPSILON);
        assert!(median(vec![]).is_nan());
    }
}
