//! The window of a link: how much its server takes from this client at a time. The calls beyond it
//! wait in the client, in the order in which they were made.
//!
//! The client asks for a larger window when calls wait, and for a smaller one when it does not need
//! as much any more. The server decides. A smaller window is confirmed once no more calls are in
//! flight than it allows. This code does no I/O and reads no clock.

use crate::protocol::control::Window;

/// The part of its window that a client must leave unused before it asks for a smaller one.
const UNUSED: usize = 4;

/// The calls of a link, and the bytes of their requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Amount {
    pub(crate) calls: usize,
    pub(crate) bytes: usize,
}

/// The window of a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkWindow {
    current: Window,
    /// The first window, which the server gives without being asked.
    first: Amount,
    /// The amount that the client has asked for.
    asked: Amount,
    /// True if the current window is smaller than the one before, and was not confirmed yet.
    unconfirmed: bool,
    /// The resource that the next request in the queue waits for, if it does not fit.
    lack: Option<Lack>,
}

/// A resource of which the window has no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    Calls,
    Bytes,
}

impl LinkWindow {
    pub(crate) fn new(first: Window) -> Self {
        let amount = Amount { calls: first.calls, bytes: first.bytes };
        Self { current: first, first: amount, asked: amount, unconfirmed: false, lack: None }
    }

    /// Returns the number of calls that may be in flight. It is at least one.
    pub(crate) fn calls(&self) -> usize {
        self.current.calls.max(1)
    }

    /// Begins to take requests from the queue.
    pub(crate) fn begin(&mut self) {
        self.lack = None;
    }

    /// Returns true if a request of `bytes` may be sent in addition to what is in flight. Any
    /// request may be sent alone.
    pub(crate) fn fits(&mut self, sent: Amount, bytes: usize) -> bool {
        self.lack = if sent.calls >= self.calls() {
            Some(Lack::Calls)
        } else if sent.calls > 0 && sent.bytes.saturating_add(bytes) > self.current.bytes {
            Some(Lack::Bytes)
        } else {
            None
        };
        self.lack.is_none()
    }

    /// Takes the window that the server states.
    pub(crate) fn handle_window(&mut self, window: Window) {
        let Window { calls, bytes, .. } = self.current;
        self.unconfirmed |= window.calls < calls || window.bytes < bytes;
        self.current = window;
    }

    /// Returns true if the sending task has something to do after a call has ended, so that only
    /// `sent` is in flight now: a report, or a request that did not fit before.
    pub(crate) fn is_ready(&self, sent: Amount) -> bool {
        let Self { first, asked, .. } = self;
        self.lack.is_some()
            || self.confirms(sent)
            || (asked.calls > first.calls && sent.calls <= asked.calls / UNUSED)
            || (asked.bytes > first.bytes && sent.bytes <= asked.bytes / UNUSED)
    }

    /// Returns true if a larger window is to be asked for when `calls` would be in flight without a
    /// window.
    pub(crate) fn is_short(&self, calls: usize) -> bool {
        calls > self.asked.calls.max(self.current.calls)
    }

    /// Returns true if the current window is to be confirmed.
    fn confirms(&self, sent: Amount) -> bool {
        self.unconfirmed && sent.calls <= self.current.calls && sent.bytes <= self.current.bytes
    }

    /// Returns the report that is due: a confirmation, or another amount that the client asks for.
    /// `sent` is in flight, and `demand` is what would be in flight without a window.
    pub(crate) fn poll_report(&mut self, sent: Amount, mut demand: Amount) -> Option<Window> {
        let asks_no_more = self.asked == self.first && !self.is_short(demand.calls);
        let lacks_bytes = self.lack == Some(Lack::Bytes);
        if asks_no_more && !self.unconfirmed && !lacks_bytes {
            return None;
        }
        let Window { number, calls, bytes } = self.current;
        if !lacks_bytes {
            demand.bytes = sent.bytes;
        }
        let confirms = self.confirms(sent);
        let asked = Amount {
            calls: ask(self.asked.calls, self.first.calls, calls, demand.calls),
            bytes: ask(self.asked.bytes, self.first.bytes, bytes, demand.bytes),
        };
        if !confirms && asked == self.asked {
            return None;
        }
        self.unconfirmed &= !confirms;
        self.asked = asked;
        // Before it can confirm a window, a client states the number of another one.
        let number = if self.unconfirmed { number.wrapping_sub(1) } else { number };
        Some(Window { number, calls: asked.calls, bytes: asked.bytes })
    }
}

/// Returns the amount to ask for. Amounts grow in powers of two, so that they change seldom.
fn ask(asked: usize, first: usize, window: usize, demand: usize) -> usize {
    if demand > asked.max(window) {
        demand.checked_next_power_of_two().unwrap_or(usize::MAX)
    } else if asked > first && demand <= asked / UNUSED {
        (2 * demand).max(first)
    } else {
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(number: u32, calls: usize) -> Window {
        Window { number, calls, bytes: 1_000 }
    }

    fn calls(calls: usize) -> Amount {
        Amount { calls, bytes: 0 }
    }

    #[test]
    fn larger_window_is_asked_for_once() {
        let mut tested = LinkWindow::new(window(0, 16));
        assert_eq!(tested.poll_report(calls(16), calls(16)), None);
        let report = tested.poll_report(calls(16), calls(70)).unwrap();
        assert_eq!((report.number, report.calls, report.bytes), (0, 128, 1_000));
        assert_eq!(tested.poll_report(calls(16), calls(128)), None);
        assert_eq!(tested.poll_report(calls(16), calls(129)).unwrap().calls, 256);
        tested.handle_window(window(1, 100));
        assert_eq!(tested.calls(), 100);
        assert_eq!(tested.poll_report(calls(100), calls(200)), None, "it was asked for already");
    }

    #[test]
    fn unused_window_is_given_back() {
        let mut tested = LinkWindow::new(window(0, 16));
        tested.poll_report(calls(16), calls(1_000)).unwrap();
        tested.handle_window(window(1, 1_000));
        assert!(!tested.is_ready(calls(257)));
        assert!(tested.is_ready(calls(256)));
        assert_eq!(tested.poll_report(calls(256), calls(256)).unwrap().calls, 512);
        assert_eq!(tested.poll_report(calls(0), calls(0)).unwrap().calls, 16);
        assert!(!tested.is_ready(calls(0)), "the first window is kept");
        assert_eq!(tested.poll_report(calls(0), calls(0)), None);
    }

    #[test]
    fn smaller_window_is_confirmed_when_it_is_kept_to() {
        let mut tested = LinkWindow::new(window(7, 100));
        tested.handle_window(window(8, 50));
        assert!(tested.is_ready(calls(50)) && !tested.is_ready(calls(51)));
        assert_eq!(tested.poll_report(calls(51), calls(100)), None);
        // Another report meanwhile is no confirmation.
        assert_eq!(tested.poll_report(calls(51), calls(101)).unwrap().number, 7);
        assert_eq!(
            tested.poll_report(calls(50), calls(101)).unwrap(),
            Window { number: 8, calls: 128, bytes: 1_000 }
        );
        assert_eq!(tested.poll_report(calls(50), calls(101)), None);
        // A larger window needs no confirmation.
        tested.handle_window(window(9, 60));
        assert_eq!(tested.poll_report(calls(50), calls(101)), None);
    }

    #[test]
    fn any_request_may_be_in_flight_alone() {
        let mut tested = LinkWindow::new(window(0, 0));
        assert_eq!(tested.calls(), 1);
        assert!(tested.fits(calls(0), 1_001));
        assert!(!tested.fits(calls(1), 0));
        let mut tested = LinkWindow::new(window(0, 10));
        assert!(tested.fits(Amount { calls: 1, bytes: 400 }, 600));
        assert!(!tested.is_ready(calls(1)));
        let sent = Amount { calls: 1, bytes: 400 };
        assert!(!tested.fits(sent, 601));
        assert!(tested.is_ready(sent), "it may fit now");
        let report = tested.poll_report(sent, Amount { calls: 0, bytes: 5_000 }).unwrap();
        assert_eq!(report.bytes, 8_192);
        assert_eq!(tested.poll_report(sent, Amount { calls: 0, bytes: 5_000 }), None);
        assert!(tested.fits(sent, 600) && !tested.is_ready(Amount { calls: 9, bytes: 2_049 }));
    }
}
