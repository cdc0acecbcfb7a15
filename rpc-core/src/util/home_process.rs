//! The process in which something was made. A fork copies the memory of a process, but only the
//! thread that forks: whatever the other threads were to do is never done in the child.

use std::process;

/// The process in which a value was made.
#[derive(Debug)]
pub(crate) struct HomeProcess(u32);

impl HomeProcess {
    pub(crate) fn new() -> Self {
        Self(process::id())
    }

    /// Returns true in a fork of the process. This takes a system call.
    pub(crate) fn is_elsewhere(&self) -> bool {
        process::id() != self.0
    }
}
