//! The receiving side of a stream: the items that have come and that nobody has taken yet, and the
//! credit that the sender has for more. This code does no I/O and reads no clock.

use std::collections::VecDeque;

use crate::protocol::stream::{Chunk, Credit};

/// The window with which a stream begins. A reader that is faster than its sender makes it grow.
const FIRST_WINDOW: usize = 16 * 1024;

/// The items come in chunks, as their messages have them.
#[derive(Debug)]
pub(crate) struct Inflow {
    /// The bytes of items that may be on their way or wait here.
    window: usize,
    max_window: usize,
    chunks: VecDeque<Chunk>,
    /// The length of the chunk that the reader has.
    lent: usize,
    /// The bytes that the sender may still send.
    credit: Credit,
    /// The bytes that were read since credit was given last.
    taken: usize,
    /// The number of items that have come.
    received: u64,
    /// True if the reader has found nothing to read since credit was given last.
    has_waited: bool,
}

/// Credit that the sender is to get.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) bytes: u64,
    /// The bytes by which the window has grown, which are among them.
    pub(crate) growth: usize,
}

impl Inflow {
    /// Makes the inflow of a stream whose sender has no credit yet.
    pub(crate) fn new(max_window: usize) -> Self {
        Self {
            window: max_window.min(FIRST_WINDOW),
            max_window,
            chunks: VecDeque::new(),
            lent: 0,
            credit: Credit::default(),
            taken: 0,
            received: 0,
            has_waited: false,
        }
    }

    /// Begins a try, and returns the first credit.
    pub(crate) fn begin(&mut self) -> u64 {
        self.credit = Credit::new(self.window as u64);
        self.window as u64
    }

    /// Adds a chunk. Returns false if the sender had no credit for it.
    pub(crate) fn push(&mut self, chunk: Chunk) -> bool {
        let had_credit = self.credit.left() > 0;
        self.credit.spend(chunk.len());
        self.received += u64::from(chunk.count());
        self.chunks.push_back(chunk);
        had_credit
    }

    /// Lends the next chunk to the reader, who has read the one before.
    pub(crate) fn next(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front();
        let read = std::mem::replace(&mut self.lent, chunk.as_ref().map_or(0, Chunk::len));
        self.taken += read;
        self.has_waited |= chunk.is_none();
        chunk
    }

    /// Returns the credit that the sender is to get now: that of half a window at once. If the
    /// reader had to wait for the sender, the window doubles, or grows by what is `spare`.
    pub(crate) fn grant(&mut self, spare: usize) -> Option<Granted> {
        if self.taken < self.window.div_ceil(2) {
            return None;
        }
        let mut growth = 0;
        if std::mem::take(&mut self.has_waited) {
            growth = self.window.min(self.max_window - self.window).min(spare);
            self.window += growth;
        }
        let bytes = std::mem::take(&mut self.taken) + growth;
        // A window is no more than anybody can have.
        let _ = self.credit.grant(bytes as u64);
        Some(Granted { bytes: bytes as u64, growth })
    }

    /// Returns true if the silence of the sender is not its own: the reader has items, or has given
    /// no credit.
    pub(crate) fn excuses_sender(&self) -> bool {
        self.credit.left() == 0 || self.has_items()
    }

    /// Drops the items that wait.
    pub(crate) fn clear(&mut self) {
        self.chunks = VecDeque::new();
    }

    /// Returns true if the reader has items, or has not taken all of them.
    pub(crate) fn has_items(&self) -> bool {
        self.lent > 0 || !self.chunks.is_empty()
    }

    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// Returns the number of items that have come.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::{MsgId, stream::ItemsHead};

    fn chunk(len: usize) -> Chunk {
        let head = ItemsHead { id: MsgId(1), values_at: 0, count: 2 };
        Chunk::new(Bytes::from(vec![0; len]), head)
    }

    fn granted(bytes: usize, growth: usize) -> Granted {
        Granted { bytes: bytes as u64, growth }
    }

    #[test]
    fn credit_is_given_by_half_windows() {
        let mut inflow = Inflow::new(100);
        assert!(!inflow.push(chunk(1)), "it has no credit before it begins");
        assert!(inflow.next().is_some() && inflow.grant(0).is_none());
        assert_eq!(inflow.begin(), 100);
        for _ in 0..3 {
            assert!(inflow.push(chunk(30)));
        }
        assert!(inflow.push(chunk(1_000)), "one message may exceed the credit");
        assert!(!inflow.push(chunk(1)));
        assert_eq!(inflow.received(), 12);
        inflow.next();
        inflow.next();
        assert_eq!(inflow.grant(0), None);
        inflow.next();
        assert_eq!(inflow.grant(usize::MAX), Some(granted(61, 0)));
        while inflow.next().is_some() {}
        assert_eq!(inflow.grant(usize::MAX), Some(granted(1_031, 0)));
        assert!(!inflow.has_items());
        assert!(inflow.push(chunk(1)) && inflow.next().is_some());
        assert!(inflow.has_items(), "what the reader has counts until it asks for more");
        assert!(inflow.next().is_none());
        assert!(!inflow.excuses_sender());
    }

    #[test]
    fn window_grows_for_a_reader_that_waits() {
        const HALF: usize = FIRST_WINDOW / 2;
        let mut inflow = Inflow::new(3 * FIRST_WINDOW);
        assert_eq!(inflow.begin(), FIRST_WINDOW as u64);
        let mut read = |spare| {
            assert!(inflow.push(chunk(HALF)));
            assert!(inflow.next().is_some() && inflow.next().is_none());
            inflow.grant(spare)
        };
        assert_eq!(read(usize::MAX), Some(granted(HALF + FIRST_WINDOW, FIRST_WINDOW)));
        assert_eq!(read(usize::MAX), None, "the window is twice as large now");
        assert_eq!(read(100), Some(granted(2 * HALF + 100, 100)));
        assert_eq!((read(0), read(0)), (None, None));
        assert_eq!(
            read(usize::MAX),
            Some(granted(3 * HALF + FIRST_WINDOW - 100, FIRST_WINDOW - 100))
        );
        assert_eq!(inflow.window(), 3 * FIRST_WINDOW, "it is as large as it may be");
    }

    #[test]
    fn window_stays_for_a_reader_that_has_more_to_read() {
        const HALF: usize = FIRST_WINDOW / 2;
        let mut inflow = Inflow::new(3 * FIRST_WINDOW);
        inflow.begin();
        for _ in 0..3 {
            inflow.push(chunk(HALF));
        }
        assert!(inflow.next().is_some() && inflow.next().is_some());
        assert_eq!(inflow.grant(usize::MAX), Some(granted(HALF, 0)));
        assert!(inflow.next().is_some(), "the last one");
        assert_eq!(inflow.grant(usize::MAX), Some(granted(HALF, 0)));
    }
}
