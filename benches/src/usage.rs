//! What a process uses: CPU time as its clock tells it, in nanoseconds; its share in the kernel,
//! and memory, as `/proc` does.

use std::{fs, time::Duration};

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    time::ClockId,
    unistd::Pid,
};

use crate::Failure;

/// The CPU time in seconds that the process has used so far, of all its threads, in user code and
/// in the kernel.
pub(crate) fn cpu_time(pid: u32) -> Result<f64, Failure> {
    let pid = Pid::from_raw(pid.try_into()?);
    Ok(Duration::from(ClockId::pid_cpu_clock_id(pid)?.now()?).as_secs_f64())
}

/// How much of it in the kernel, as the system estimates by looking at what runs a hundred times a
/// second.
pub(crate) fn kernel_time(pid: u32) -> Result<f64, Failure> {
    /// Linux counts this in hundredths of a second, whatever it measures in.
    const TICK: f64 = 0.01;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is a name in parentheses, and may have blanks; this is the 15th.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u32 = fields.split_whitespace().nth(12).ok_or("the process has ended")?.parse()?;
    Ok(f64::from(ticks) * TICK)
}

/// The memory that the process holds in RAM, in bytes.
pub(crate) fn memory(pid: u32) -> Result<u64, Failure> {
    status(pid, "VmRSS:")
}

/// The most that it has held.
pub(crate) fn peak_memory(pid: u32) -> Result<u64, Failure> {
    status(pid, "VmHWM:")
}

fn status(pid: u32, name: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)).ok_or("the process has ended")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// A thousand clients need more files than most shells allow. Children inherit it.
pub(crate) fn allow_many_files() -> Result<(), Failure> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}
