//! The resource usage of a process. Its CPU time comes from its CPU clock, in nanoseconds. Its time
//! in the kernel and its memory come from `/proc`.

use std::{fs, time::Duration};

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    time::ClockId,
    unistd::Pid,
};

use crate::Failure;

/// Returns the CPU time in seconds that the process has used so far. It covers all threads, in user
/// code and in the kernel.
pub(crate) fn cpu_time(pid: u32) -> Result<f64, Failure> {
    let pid = Pid::from_raw(pid.try_into()?);
    Ok(Duration::from(ClockId::pid_cpu_clock_id(pid)?.now()?).as_secs_f64())
}

/// Returns the part of the CPU time that the process spent in the kernel, in seconds. The system
/// estimates it: a hundred times a second, it samples what is running.
pub(crate) fn kernel_time(pid: u32) -> Result<f64, Failure> {
    /// The unit of the value in seconds. Linux reports hundredths of a second, whatever resolution
    /// it measures with.
    const TICK: f64 = 0.01;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses, which may contain blanks. The kernel
    // time is the 15th field.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u32 = fields.split_whitespace().nth(12).ok_or("the process has ended")?.parse()?;
    Ok(f64::from(ticks) * TICK)
}

/// Returns the memory that the process holds in RAM, in bytes.
pub(crate) fn memory(pid: u32) -> Result<u64, Failure> {
    status(pid, "VmRSS:")
}

/// Returns the peak of the memory that the process has held in RAM, in bytes.
pub(crate) fn peak_memory(pid: u32) -> Result<u64, Failure> {
    status(pid, "VmHWM:")
}

fn status(pid: u32, name: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)).ok_or("the process has ended")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Raises the limit of open files as far as the system allows. A thousand clients need more files
/// than most shells permit. Child processes inherit the limit.
pub(crate) fn allow_many_files() -> Result<(), Failure> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}
