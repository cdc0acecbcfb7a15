//! What was measured, and what follows from it: medians and spreads.

use std::ops::Sub;

use crate::{contestant::Contestant, drive::Turn, words::WordsRound, work::Work};

/// One turn of a contestant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) turn: Turn,
    pub(crate) client: Used,
    pub(crate) server: Used,
}

/// The CPU time of a process, in seconds, for all calls of a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) cpu: f64,
    /// What of it was spent in the kernel.
    pub(crate) kernel: f64,
}

impl Sub for Used {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { cpu: self.cpu - before.cpu, kernel: self.kernel - before.kernel }
    }
}

/// All turns of a contestant at one work.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) work: Work,
    pub(crate) contestant: Contestant,
    pub(crate) rounds: Vec<Round>,
    /// In bytes. The server's memory before anyone had connected, and the most that each had.
    pub(crate) server_at_first: u64,
    pub(crate) server_peak: u64,
    pub(crate) client_peak: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) measured: Vec<Measured>,
    pub(crate) words: Vec<WordsRound>,
}

impl Results {
    pub(crate) fn of(&self, work: Work, contestant: Contestant) -> Option<&Measured> {
        self.measured
            .iter()
            .find(|measured| measured.work == work && measured.contestant == contestant)
    }
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    CallsPerSecond,
    /// In seconds.
    P50,
    P99,
    /// In seconds per call.
    ClientCpu,
    ServerCpu,
    /// Of both.
    Cpu,
    /// What of it was spent in the kernel.
    ClientKernel,
    ServerKernel,
}

impl Round {
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
    pub(crate) fn median(&self, metric: Metric) -> f64 {
        median(self.values(metric))
    }

    /// Half of the distance from the lowest to the highest, as a part of the median.
    pub(crate) fn spread(&self, metric: Metric) -> f64 {
        let (lowest, highest) = extremes(self.values(metric));
        (highest - lowest) / 2.0 / self.median(metric)
    }

    fn values(&self, metric: Metric) -> Vec<f64> {
        self.rounds.iter().map(|round| round.metric(metric)).collect()
    }

    /// How many bytes of the server's memory each client has cost.
    pub(crate) fn server_memory_per_client(&self) -> f64 {
        float(self.server_peak.saturating_sub(self.server_at_first))
            / float(self.work.clients as u64)
    }
}

/// Of an even number, the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (length, half) if length.is_multiple_of(2) => f64::midpoint(values[half - 1], values[half]),
        (_, half) => values[half],
    }
}

/// The lowest and the highest.
pub(crate) fn extremes(values: Vec<f64>) -> (f64, f64) {
    let mut extremes = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        extremes = (extremes.0.min(value), extremes.1.max(value));
    }
    extremes
}

/// No count or size here comes near 2^53.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn float(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 9.0, 1.0, 2.0]) - 3.0).abs() < f64::EPSILON);
        assert!(median(vec![]).is_nan());
    }
}
