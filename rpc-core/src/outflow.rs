//! The items that a function has returned and that are not sent yet. The function adds them on a
//! worker or on the runtime, and the event loop of its listener takes them.
//!
//! The function is held while its caller gives no credit, while the event loop has not taken what is
//! there, and while the peer of the caller has much that it has not read. So a caller that takes its
//! time holds a bounded part of the memory, and the items of a peer leave capacity for its replies.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::{
    protocol::{
        MsgId,
        stream::{Credit, Item, Items, MESSAGE_BYTES},
    },
    util::fair_share::{Lease, Share},
};

/// The most bytes of items that wait for the event loop. One item may exceed them.
const MAX_WAITING: usize = 4 * MESSAGE_BYTES;

/// Tells the event loop that it must [`take`](Outflow::take).
pub(crate) type Announce = Box<dyn Fn() + Send + Sync>;

/// The items of one call on their way to the event loop.
pub(crate) struct Outflow {
    state: Mutex<State>,
    /// The most bytes that a message may have.
    limit: usize,
    /// The bytes that the peer of the caller has not read.
    unread: Unread,
    announce: Announce,
}

/// The bytes that the peer of a caller has not read.
pub(crate) struct Unread {
    pub(crate) share: Arc<Share>,
    /// The bytes that a message counts in addition to its body.
    pub(crate) overhead: usize,
}

struct State {
    credit: Credit,
    /// The messages that are complete.
    full: Vec<Message>,
    /// The bytes of `full`.
    full_bytes: usize,
    /// The items of the next message. The event loop takes them too: no item waits for the next one,
    /// which may take long.
    items: Items,
    /// True if the event loop was told, and has not taken anything since.
    announced: bool,
    /// The function, which waits until it may add an item.
    waker: Option<Waker>,
    /// True while the event loop knows that the function waits for its peer to read.
    stalled: bool,
    closed: bool,
}

/// A message with items, which counts among the unread ones of its peer.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) body: Bytes,
    pub(crate) lease: Lease,
}

/// True if a function waits for its peer to read. The event loop must [`retry`](Outflow::retry) it
/// then, because nothing else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) struct Stalled(pub(crate) bool);

impl Outflow {
    /// Makes the outflow of a call whose caller takes `credit` bytes. `limit` is that of a message.
    pub(crate) fn new(
        id: MsgId,
        credit: u64,
        limit: usize,
        unread: Unread,
        announce: Announce,
    ) -> Arc<Self> {
        let state = State {
            credit: Credit::new(credit),
            full: Vec::new(),
            full_bytes: 0,
            items: Items::new(id),
            announced: false,
            waker: None,
            stalled: false,
            closed: false,
        };
        Arc::new(Self { state: Mutex::new(state), limit, unread, announce })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock can be ignored, because nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the most bytes that a message may have.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Adds an item. Returns true if the next one may follow.
    pub(crate) fn push(&self, item: &mut Item) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        if let Some(full) = state.items.push(item, self.limit) {
            state.add_full(full, &self.unread);
        }
        if state.items.len() >= MESSAGE_BYTES {
            state.complete(&self.unread);
        }
        let announced = mem::replace(&mut state.announced, true);
        // Only a message that was completed since the last item, here or by the event loop, adds to
        // what the peer has not read.
        let continues = state.items.count() > 1;
        let may_follow = state.takes_items() && (continues || self.unread.share.has_room());
        drop(state);
        if !announced {
            (self.announce)();
        }
        may_follow
    }

    /// Waits until an item may be added. Only the function waits for that.
    pub(crate) fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let takes_items = state.takes_items();
        if takes_items && self.unread.share.has_room() {
            return Poll::Ready(());
        }
        let old = state.waker.replace(cx.waker().clone());
        // The event loop has to find out that the peer has read.
        let announced = !takes_items || mem::replace(&mut state.announced, true);
        drop(state);
        drop(old);
        if !announced {
            (self.announce)();
        }
        Poll::Pending
    }

    /// Takes all items, for the event loop.
    pub(crate) fn take(&self) -> (Vec<Message>, Stalled) {
        let mut state = self.lock();
        state.announced = false;
        state.complete(&self.unread);
        state.full_bytes = 0;
        let messages = mem::take(&mut state.full);
        for message in &messages {
            state.credit.spend(message.body.len());
        }
        (messages, self.go_on(state))
    }

    /// Adds credit.
    ///
    /// # Errors
    /// Returns `Err` if nobody can have so much.
    pub(crate) fn grant(&self, bytes: u64) -> Result<Stalled, ()> {
        let mut state = self.lock();
        state.credit.grant(bytes)?;
        Ok(self.go_on(state))
    }

    /// Lets the function go on if its peer has read. Returns whether it is still stalled.
    pub(crate) fn retry(&self) -> Stalled {
        let mut state = self.lock();
        state.stalled = false;
        self.go_on(state)
    }

    /// Wakes the function if it may add an item. Otherwise, returns whether it is stalled and the
    /// event loop does not know.
    fn go_on(&self, mut state: MutexGuard<'_, State>) -> Stalled {
        if state.waker.is_none() || !state.takes_items() {
            return Stalled(false);
        }
        if !self.unread.share.has_room() {
            return Stalled(!mem::replace(&mut state.stalled, true));
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Stalled(false)
    }

    /// Drops the items that wait, and those that the function still adds.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let dropped = (mem::take(&mut state.full), state.items.take(), state.waker.take());
        drop(state);
        drop(dropped);
    }
}

impl State {
    /// Returns true if there is credit and place for one more item.
    fn takes_items(&self) -> bool {
        let waiting = self.full_bytes + self.items.len();
        waiting < MAX_WAITING && self.credit.left() > waiting && !self.closed
    }

    /// Completes the message that was begun.
    fn complete(&mut self, unread: &Unread) {
        if let Some(body) = self.items.take() {
            self.add_full(body, unread);
        }
    }

    fn add_full(&mut self, body: Bytes, unread: &Unread) {
        self.full_bytes += body.len();
        self.full.push(Message { lease: unread.share.hold(body.len() + unread.overhead), body });
    }
}

impl fmt::Debug for Outflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outflow")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::fair_share::SharedLimit;

    const LIMIT: usize = 1024 * 1024;

    /// Pushes items of `size` bytes for a peer that reads nothing, until the function is stopped.
    /// The event loop takes them after every `pushes`. Returns the bytes that the peer then has.
    fn fill(size: usize, pushes: usize) -> usize {
        let share = Share::new(&Arc::new(SharedLimit::new(LIMIT, 0)));
        let unread = Unread { share: Arc::clone(&share), overhead: 100 };
        let outflow = Outflow::new(MsgId(1), u64::MAX, LIMIT, unread, Box::new(|| ()));
        let value = Bytes::from(vec![0; size]);
        let (mut item, mut unread) = (Item::default(), Vec::new());
        let cx = Context::from_waker(Waker::noop());
        while share.held() < LIMIT {
            let waits = (0..pushes).any(|_| {
                item.encode(LIMIT, |writer| writer.value(&value)).unwrap();
                !outflow.push(&mut item) && outflow.poll_ready(&cx).is_pending()
            });
            unread.extend(outflow.take().0);
            if waits && !share.has_room() {
                break;
            }
        }
        share.held()
    }

    #[test]
    fn items_that_the_peer_does_not_read_are_bounded() {
        for size in [10, 1_000, 5_000, MESSAGE_BYTES, 4 * MESSAGE_BYTES] {
            for pushes in [1, 2, 7] {
                // A quarter of what is free, and what waited.
                let held = fill(size, pushes);
                assert!(held < LIMIT / 5 + MAX_WAITING + size, "{held}: {pushes} of {size} bytes");
            }
        }
    }
}
