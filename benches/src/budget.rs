//! How many instructions one call over inproc may take. When what it takes has changed for good,
//! the figures that `--instructions` prints belong here.

/// What the budgets were measured with. Another compiler makes other instructions of the same
/// source.
pub(crate) const COMPILER: &str = "rustc 1.95.0";

/// One echo of 64 B.
pub(crate) const BUDGETS: [Budget; 2] = [
    // It changes by 0.2 % from run to run, and by 0.5 % when the compiler groups the same code
    // otherwise; another processor or C library has other ways to copy and to allocate.
    Budget { place: "inline", instructions: 15_770, margin: 3 },
    // By 1 % from run to run: whether the worker or the I/O thread has come to sleep is up to the
    // scheduler.
    Budget { place: "pool", instructions: 23_000, margin: 5 },
];

/// So far below its budget, in percent, a figure is worth a lower one.
const FAR_BELOW: u64 = 10;

/// What a call may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Where its function runs.
    pub(crate) place: &'static str,
    /// As measured.
    instructions: u64,
    /// How much more it may be, in percent: what the same code takes more on another day or another
    /// machine.
    margin: u64,
}

/// What is to be said of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Above,
    Within,
    FarBelow,
}

impl Budget {
    /// The most that it may be.
    pub(crate) const fn limit(&self) -> u64 {
        self.instructions * (100 + self.margin) / 100
    }

    pub(crate) const fn judge(&self, instructions: u64) -> Verdict {
        if instructions > self.limit() {
            Verdict::Above
        } else if instructions * 100 < self.instructions * (100 - FAR_BELOW) {
            Verdict::FarBelow
        } else {
            Verdict::Within
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Verdict::{Above, FarBelow, Within},
        *,
    };

    #[test]
    fn a_figure_may_exceed_its_budget_by_the_margin_and_no_more() {
        let budget = Budget { place: "here", instructions: 1_000, margin: 3 };
        let verdicts =
            [899, 900, 1_000, 1_030, 1_031].map(|instructions| budget.judge(instructions));
        assert_eq!(verdicts, [FarBelow, Within, Within, Within, Above]);
    }
}
