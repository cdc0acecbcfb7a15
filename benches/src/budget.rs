//! Instruction budgets: the number of instructions that one call over inproc may take.
//!
//! If the cost of a call has changed for good, the figures that `--instructions` prints belong
//! here.

/// The compiler that the budgets were measured with. Another compiler generates other instructions
/// from the same source.
pub(crate) const COMPILER: &str = "rustc 1.95.0";

/// The budgets for one echo of 64 B.
pub(crate) const BUDGETS: [Budget; 2] = [
    // The figure varies by 0.2 % from run to run, and by 0.5 % when the compiler groups the same
    // code differently. Another processor or C library copies and allocates in other ways.
    Budget { execution: "inline", instructions: 14_600, margin: 3 },
    // A single count varies by 1 % in both directions: the scheduler decides whether the worker or
    // the I/O thread has gone to sleep. The least of several counts varies less.
    Budget { execution: "pool", instructions: 21_150, margin: 5 },
];

/// The distance below its budget, in percent, beyond which a figure justifies a lower budget.
const FAR_BELOW: u64 = 10;

/// The instruction budget of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// The execution of the called function: `inline` in the receive loop, or `pool` on a worker.
    pub(crate) execution: &'static str,
    /// The measured number of instructions.
    instructions: u64,
    /// The allowed excess over `instructions`, in percent. It covers the variation of the same code
    /// between days and machines.
    margin: u64,
}

/// The result of comparing a figure with its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The figure exceeds the limit of the budget.
    Above,
    /// The figure needs no action.
    Within,
    /// The figure is so low that the budget can be lowered.
    FarBelow,
}

impl Budget {
    /// Returns the highest number of instructions that the budget allows.
    pub(crate) const fn limit(&self) -> u64 {
        self.instructions * (100 + self.margin) / 100
    }

    /// Compares a measured number of instructions with the budget.
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
    fn figure_may_exceed_budget_by_its_margin() {
        let budget = Budget { execution: "here", instructions: 1_000, margin: 3 };
        let verdicts =
            [899, 900, 1_000, 1_030, 1_031].map(|instructions| budget.judge(instructions));
        assert_eq!(verdicts, [FarBelow, Within, Within, Within, Above]);
    }
}
