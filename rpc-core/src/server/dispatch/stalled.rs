//! The streams whose functions wait for their peers to read.

use std::time::{Duration, Instant};

use crate::{outflow::Stalled, server::completion::Ticket};

/// The interval of the checks whether peers have read. It doubles as long as none has.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);
const MAX_INTERVAL: Duration = Duration::from_millis(40);

/// The streams whose functions wait for their peers to read. Nobody reports that, so that it is
/// checked from time to time.
#[derive(Debug)]
pub(super) struct StalledStreams {
    tickets: Vec<Ticket>,
    interval: Duration,
    check_at: Option<Instant>,
}

impl StalledStreams {
    pub(super) fn new() -> Self {
        Self { tickets: Vec::new(), interval: CHECK_INTERVAL, check_at: None }
    }

    pub(super) fn note(&mut self, ticket: Ticket, stalled: Stalled, now: Instant) {
        if stalled.0 {
            self.tickets.push(ticket);
            self.check_at.get_or_insert(now + self.interval);
        }
    }

    /// Returns the time at which [`due`](Self::due) must be called.
    pub(super) fn check_at(&self) -> Option<Instant> {
        self.check_at
    }

    /// Takes all of them if they are to be retried now, those that wait for longest first.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Ticket> {
        if self.check_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.check_at = None;
        std::mem::take(&mut self.tickets)
    }

    /// Keeps those that are stalled after a check. `progress` is true if others are not any more.
    pub(super) fn keep(&mut self, stalled: Vec<Ticket>, progress: bool, now: Instant) {
        self.interval =
            if progress { CHECK_INTERVAL } else { (2 * self.interval).min(MAX_INTERVAL) };
        if !stalled.is_empty() {
            self.tickets = stalled;
            self.check_at = Some(now + self.interval);
        }
    }
}
