//! Counts instructions: runs this program again, under valgrind. What the machine does besides
//! changes little of it.

use std::{env, process::Command};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::Failure;

/// How often something is done. Starting and stopping is in both, and falls out of the difference.
const FEW: u32 = 1_000;
const MANY: u32 = 6_000;

/// How many instructions this program takes each time that it does what the arguments say; their
/// number is the last.
pub(crate) fn each(arguments: &[&str]) -> Result<u64, Failure> {
    let more = count(arguments, MANY)?.saturating_sub(count(arguments, FEW)?);
    Ok(more / u64::from(MANY - FEW))
}

fn count(arguments: &[&str], times: u32) -> Result<u64, Failure> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(env::current_exe()?);
    let output = valgrind.args(arguments).arg(times.to_string()).output();
    let output = output.map_err(|error| format!("valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    // "==123== Collected : 456"
    let collected = text.lines().find_map(|line| line.split_once("Collected :"));
    let (_, instructions) =
        collected.ok_or_else(|| format!("valgrind has counted nothing:\n{text}"))?;
    Ok(instructions.trim().parse()?)
}

/// Keeps this thread, and those that it will start, on one processor. Valgrind runs one at a time
/// anyway; but which is next, and so how often one goes to sleep, would depend on what else the
/// machine does.
pub(crate) fn stay_on_one_processor() -> Result<(), Failure> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let first = (0..CpuSet::count()).find(|processor| allowed.is_set(*processor).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(first.ok_or("there is no processor")?)?;
    Ok(sched_setaffinity(this, &one)?)
}
