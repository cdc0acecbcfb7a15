//! The resources that a process uses, as Linux reports them.

use std::{fs, process};

/// Returns the memory that the process `pid` holds in RAM, in bytes.
///
/// # Panics
/// Panics if there is no such process.
#[must_use]
pub fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number of KiB");
    kib * 1024
}

/// Returns the memory of this process, see [`memory`].
#[must_use]
pub fn own_memory() -> u64 {
    memory(process::id())
}

/// Returns the number of files and sockets that the process `pid` has open.
///
/// # Panics
/// Panics if there is no such process.
#[must_use]
pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count()
}

/// Formats bytes in MiB for people to read.
#[must_use]
#[allow(clippy::cast_precision_loss)] // The result is for people.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_used_is_seen() {
        let before = own_memory();
        let used = std::hint::black_box(vec![1_u8; 256 << 20]);
        // Only half of it is required, because concurrent tests give back memory that they have
        // used.
        assert!(own_memory() > before + (128 << 20));
        drop(used);
    }

    #[test]
    fn a_file_that_is_opened_is_seen() {
        let open: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/status").unwrap()).collect();
        assert!(open_files(process::id()) > 50);
        drop(open);
    }
}
