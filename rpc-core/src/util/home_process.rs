//! The process in which something was made. A fork copies the memory of a process, but only the
//! thread that forks: whatever the other threads were to do is never done in the child.

use std::{
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// The process in which a value was made.
#[derive(Debug)]
pub(crate) struct HomeProcess {
    id: u32,
    made_at: Instant,
    /// The time of the last check, in units of 2²⁰ ns (about a millisecond) since `made_at`.
    checked: AtomicU64,
}

impl HomeProcess {
    pub(crate) fn new() -> Self {
        Self { id: process::id(), made_at: Instant::now(), checked: AtomicU64::new(0) }
    }

    /// Returns true in a fork of the process. This takes a system call.
    pub(crate) fn is_elsewhere(&self) -> bool {
        process::id() != self.id
    }

    /// Returns true in a fork of the process, except within a millisecond of the last check. Most
    /// calls take less time than a system call that would make sure.
    pub(crate) fn seems_elsewhere(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.made_at);
        let millis = (since.as_secs() << 10) | u64::from(since.subsec_nanos() >> 20);
        if self.checked.load(Ordering::Relaxed) == millis {
            return false;
        }
        self.checked.store(millis, Ordering::Relaxed);
        self.is_elsewhere()
    }
}
