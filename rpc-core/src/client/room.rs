//! How much a client has in flight, in calls and in bytes, and who waits for room. No I/O, no
//! clock.

/// What happens to a call when as much is in flight on its client as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// It waits, in the order in which calls were made, until there is room or its time is up.
    #[default]
    Wait,
    /// It fails at once as [`Overloaded`](crate::ErrorKind::Overloaded), and was never sent.
    Fail,
}

/// The bounds, and what is used of them.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) max_calls: usize,
    pub(crate) max_bytes: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) calls: usize,
    pub(crate) bytes: usize,
}

impl Room {
    pub(crate) fn new(max_calls: usize, max_bytes: usize, when_full: WhenFull) -> Self {
        Self { max_calls: max_calls.max(1), max_bytes, when_full, calls: 0, bytes: 0 }
    }

    /// Whether one more call of `bytes` may be in flight. One that is larger than all room goes
    /// alone.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.calls == 0
            || (self.calls < self.max_calls && self.bytes.saturating_add(bytes) <= self.max_bytes)
    }

    pub(crate) fn enter(&mut self, bytes: usize) {
        self.calls += 1;
        self.bytes += bytes;
    }

    pub(crate) fn leave(&mut self, bytes: usize) {
        self.calls -= 1;
        self.bytes -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_bytes_are_bounded() {
        let mut room = Room::new(2, 100, WhenFull::Wait);
        assert!(room.fits(1_000), "what is larger than all room goes alone");
        room.enter(60);
        assert!(!room.fits(41));
        assert!(room.fits(40));
        room.enter(40);
        assert!(!room.fits(0));
        room.leave(60);
        assert!(room.fits(60));
    }
}
