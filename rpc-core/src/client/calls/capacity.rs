//! The limits of a client for calls and bytes in flight. This code does no I/O and reads no clock.

/// The treatment of a call that would exceed the limits of its client for calls or bytes in flight.
/// See [`ClientBuilder::when_full`](crate::ClientBuilder::when_full).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The call waits until there is capacity, or until its deadline. Waiting calls get capacity in
    /// the order in which they were made.
    #[default]
    Wait,
    /// The call fails at once as [`Overloaded`](crate::ErrorKind::Overloaded), and is never sent.
    Fail,
}

/// The limits, and the amounts in use.
#[derive(Debug)]
pub(crate) struct Capacity {
    pub(crate) max_calls: usize,
    pub(crate) max_bytes: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) calls: usize,
    pub(crate) bytes: usize,
    /// The windows of all streams that calls return: as many bytes of items may come.
    pub(crate) windows: usize,
}

impl Capacity {
    pub(crate) fn new(max_calls: usize, max_bytes: usize, when_full: WhenFull) -> Self {
        Self { max_calls: max_calls.max(1), max_bytes, when_full, calls: 0, bytes: 0, windows: 0 }
    }

    /// Returns true if there is capacity for one more call of `bytes`. A call that is larger than
    /// the whole capacity may be in flight alone.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.calls == 0
            || (self.calls < self.max_calls
                && self.bytes.saturating_add(self.windows).saturating_add(bytes) <= self.max_bytes)
    }

    /// Returns the bytes by which windows may grow: half of the capacity is left for calls.
    pub(crate) fn spare(&self) -> usize {
        (self.max_bytes / 2).saturating_sub(self.bytes.saturating_add(self.windows))
    }

    pub(crate) fn acquire(&mut self, bytes: usize) {
        self.calls += 1;
        self.bytes += bytes;
    }

    pub(crate) fn release(&mut self, bytes: usize) {
        self.calls -= 1;
        self.bytes -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_bytes_are_bounded() {
        let mut capacity = Capacity::new(2, 100, WhenFull::Wait);
        assert!(capacity.fits(1_000), "a large call fits alone");
        capacity.acquire(60);
        assert!(!capacity.fits(41));
        assert!(capacity.fits(40));
        capacity.acquire(40);
        assert!(!capacity.fits(0));
        capacity.release(60);
        assert!(capacity.fits(60));
        capacity.windows = 10;
        assert!(capacity.fits(50) && !capacity.fits(51));
        assert_eq!(capacity.spare(), 0);
    }
}
