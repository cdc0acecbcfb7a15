//! Times in the future.

use std::time::{Duration, Instant};

/// Returns the time at which `timeout` has passed. A timeout of more than a century counts as a
/// century, because the sum could exceed the range of the clock.
pub(crate) fn deadline_after(now: Instant, timeout: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    now + timeout.min(CENTURY)
}
