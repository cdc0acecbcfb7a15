//! The detection of a server that owes replies and sends nothing. No I/O, no clock.

use std::time::{Duration, Instant};

/// The silence of one server, which is checked from time to time.
#[derive(Debug)]
pub(super) struct Silence {
    timeout: Duration,
    /// The number of messages that were received until the last check.
    seen: u64,
    /// The time since which the server is known to owe a message, and to have sent none.
    since: Option<Instant>,
    /// True if the server was pinged. It then owes the answer, even if every call has ended
    /// meanwhile.
    pinged: bool,
}

/// The result of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Responsive,
    /// The server owes a message, and is to be pinged.
    Silent,
    /// The server has sent nothing for longer than the timeout.
    Lost(Duration),
}

impl Silence {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, seen: 0, since: None, pinged: false }
    }

    /// Checks a server from which `received` messages have come. `owes` is true if it owes replies.
    ///
    /// A server is lost only after it has been silent, and has owed a message, for the whole
    /// timeout. The check after that finds it out, which is one interval of checks later at most.
    pub(super) fn check(
        &mut self,
        received: u64,
        owes: bool,
        is_late: bool,
        now: Instant,
    ) -> Verdict {
        let heard = received != self.seen;
        if heard || !(owes || self.pinged) {
            *self = Self { seen: received, since: owes.then_some(now), ..Self::new(self.timeout) };
            return Verdict::Responsive;
        }
        let silent = now.saturating_duration_since(*self.since.get_or_insert(now));
        if is_late {
            return Verdict::Responsive;
        }
        if silent >= self.timeout {
            return Verdict::Lost(silent);
        }
        self.pinged = true;
        Verdict::Silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(4);
    const SECOND: Duration = Duration::from_secs(1);

    /// Checks every second, and returns the time at which the server is lost. At each check,
    /// `state` returns the number of messages that have come, and whether replies are owed.
    fn lost_after(state: impl Fn(u32) -> (u64, bool)) -> Option<u32> {
        let begin = Instant::now();
        let mut silence = Silence::new(TIMEOUT);
        (1..20).find(|second| {
            let (received, owes) = state(*second);
            let verdict = silence.check(received, owes, false, begin + *second * SECOND);
            matches!(verdict, Verdict::Lost(_))
        })
    }

    #[test]
    fn server_is_lost_after_the_timeout_and_one_check_at_most() {
        // The last message comes just after the first check, or just before the second one.
        assert_eq!(lost_after(|second| (u64::from(second > 1), true)), Some(6));
        // The server never says anything. The first reply is owed from the beginning on.
        assert_eq!(lost_after(|_| (0, true)), Some(5));
        // A call is made just before the fourth check, or just after the third one.
        assert_eq!(lost_after(|second| (0, second > 3)), Some(8));
        // A message comes while nothing is owed, and a call is made right after it.
        assert_eq!(lost_after(|second| (1, second > 1)), Some(6));
    }

    #[test]
    fn server_that_sends_or_owes_nothing_is_not_lost() {
        assert_eq!(lost_after(|second| (u64::from(second), true)), None);
        assert_eq!(lost_after(|second| (u64::from(second / 3), true)), None);
        assert_eq!(lost_after(|_| (0, false)), None);
    }

    #[test]
    fn pinged_server_owes_the_answer() {
        assert_eq!(lost_after(|second| (0, second == 1)), Some(5));
    }

    #[test]
    fn late_check_does_not_end_the_link() {
        let now = Instant::now();
        let mut silence = Silence::new(TIMEOUT);
        assert_eq!(silence.check(0, true, false, now), Verdict::Silent);
        assert_eq!(silence.check(0, true, true, now + 60 * SECOND), Verdict::Responsive);
        assert_eq!(silence.check(0, true, false, now + 61 * SECOND), Verdict::Lost(61 * SECOND));
    }
}
