//! Instruction counts: runs this program again, under valgrind. Other load on the machine hardly
//! changes the counts.

use std::{env, process::Command};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::Failure;

/// The two numbers of repetitions. Both runs include starting and stopping, which the difference
/// between their counts cancels out.
const FEW: u32 = 1_000;
const MANY: u32 = 6_000;

/// Returns the number of instructions of one repetition. `arguments` tell this program what to
/// repeat. The number of repetitions is appended to them.
pub(crate) fn each(arguments: &[&str]) -> Result<u64, Failure> {
    let more = count(arguments, MANY)?.saturating_sub(count(arguments, FEW)?);
    Ok(more / u64::from(MANY - FEW))
}

/// Runs this program with a number of repetitions, and returns the instructions of the whole run.
fn count(arguments: &[&str], times: u32) -> Result<u64, Failure> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(env::current_exe()?);
    let output = valgrind.args(arguments).arg(times.to_string()).output();
    let output = output.map_err(|error| format!("valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    // The line has the form "==123== Collected : 456".
    let collected = text.lines().find_map(|line| line.split_once("Collected :"));
    let (_, instructions) =
        collected.ok_or_else(|| format!("valgrind has counted nothing:\n{text}"))?;
    Ok(instructions.trim().parse()?)
}

/// Pins this thread, and the threads that it will start, to one processor. Valgrind runs one thread
/// at a time anyway. Without pinning, other load on the machine would influence which thread is
/// next, and thus how often a thread goes to sleep.
pub(crate) fn stay_on_one_processor() -> Result<(), Failure> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let first = (0..CpuSet::count()).find(|processor| allowed.is_set(*processor).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(first.ok_or("there is no processor")?)?;
    Ok(sched_setaffinity(this, &one)?)
}
