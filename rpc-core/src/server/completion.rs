//! The completion queue of an event loop. Workers, async tasks and other event loops use it to
//! report that functions have ended.
//!
//! To wake the event loop takes longer than a small function. So a worker that has more jobs may
//! add a completion without a notification, for [`NOTIFY_INTERVAL`] after its last notification. As
//! long as functions run, the loop polls the queue [`POLL_INTERVAL`] after it last handled
//! completions or messages. If the next function of the worker takes long, the completion before it
//! stays without a notification. It is then late by the poll interval and by the granularity of the
//! timer, which is a millisecond.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;

use crate::handler::HandlerResult;

/// The time after a notification for which a worker may add completions without another one.
const NOTIFY_INTERVAL: Duration = Duration::from_micros(100);
/// The time after which the event loop polls for completions without a notification. It is longer
/// than [`NOTIFY_INTERVAL`], so that the poll finds every such completion.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(1);
const _: () = assert!(NOTIFY_INTERVAL.as_nanos() < POLL_INTERVAL.as_nanos());

/// The largest capacity, in completions, that an empty queue keeps allocated.
const MAX_IDLE_CAPACITY: usize = 4_096;

/// The identifier of a request among those that a listener has in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u32);

/// The identifier of a client's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowId(pub(crate) u32);

/// A message to an event loop about one of its requests or clients.
#[derive(Debug)]
pub(crate) enum Completion {
    /// The function has ended, or never started.
    Ended { ticket: Ticket, result: HandlerResult },
    /// There are items of the stream that a function returns, in its outflow.
    Items(Ticket),
    /// The function takes more bytes of items of the stream among its arguments.
    Credit { ticket: Ticket, bytes: u64 },
    /// A function that returns a stream waits for a worker again.
    Waits,
    /// No request waits any more for a function that runs on behalf of an idempotency key.
    Unwanted(Ticket),
    /// The window of a client of this event loop has changed, and is to be sent.
    Window(WindowId),
}

/// The queue of completions for one event loop.
///
/// The queue needs no limit of its own, because the number of admitted requests is limited. Each of
/// them causes one completion, and up to two more if it has an idempotency key. A stream that a
/// function returns has one, until its items were taken. A stream among the arguments causes one for
/// each half of its window. One between two checks of the workers tells that a function waits. Each
/// client has at most one window in the queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct CompletionQueue(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    completions: Mutex<VecDeque<Completion>>,
    /// The waker of the event loop.
    reader: AtomicWaker,
}

impl CompletionQueue {
    /// Adds a completion, and wakes the event loop.
    pub(crate) fn send(&self, completion: Completion) {
        self.push(completion);
        self.notify();
    }

    fn push(&self, completion: Completion) {
        self.lock().push_back(completion);
    }

    fn notify(&self) {
        self.0.reader.wake();
    }

    /// Waits until there are completions in `out`, and moves new ones there if it is empty.
    /// Cancel-safe.
    pub(crate) async fn recv(&self, out: &mut VecDeque<Completion>) {
        poll_fn(|cx| {
            if !out.is_empty() || self.try_recv(out) {
                return Poll::Ready(());
            }
            self.0.reader.register(cx.waker());
            // Checked again, because a notification may have come before the waker was registered.
            if self.try_recv(out) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Moves all completions to `out`, which must be empty. Returns false if there were none.
    pub(crate) fn try_recv(&self, out: &mut VecDeque<Completion>) -> bool {
        if out.capacity() > MAX_IDLE_CAPACITY {
            *out = VecDeque::new();
        }
        std::mem::swap(out, &mut *self.lock());
        !out.is_empty()
    }

    /// Returns true if both handles belong to the same queue.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Completion>> {
        // A poisoned lock can be ignored, because nothing panics while it is held.
        self.0.completions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address of a request: the completion queue of the event loop that has it in flight, and its
/// ticket there.
#[derive(Debug, Clone)]
pub(crate) struct RequestAddress {
    pub(crate) queue: CompletionQueue,
    pub(crate) ticket: Ticket,
}

impl PartialEq for RequestAddress {
    fn eq(&self, other: &Self) -> bool {
        self.ticket == other.ticket && self.queue.is_same(&other.queue)
    }
}

/// The sender of a worker thread, which coalesces the notifications of event loops.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    /// The queue whose event loop was notified last, and the time of the notification.
    notified: Option<(CompletionQueue, Instant)>,
    /// True if that queue may hold completions without a notification.
    pending: bool,
}

impl Notifier {
    /// Adds a completion, and notifies the event loop now or later. The worker must call
    /// [`flush`](Self::flush) before it sleeps.
    pub(crate) fn send(&mut self, queue: &CompletionQueue, completion: Completion) {
        // Measured before the push. The event loop takes this completion after this time, and polls
        // again one `POLL_INTERVAL` later. So the thread may be preempted at any point below.
        let before = Instant::now();
        queue.push(completion);
        let recent = |at: &Instant| at.elapsed() < NOTIFY_INTERVAL;
        match &self.notified {
            Some((notified, at)) if notified.is_same(queue) && recent(at) => self.pending = true,
            _ => {
                self.flush();
                queue.notify();
                self.notified = Some((queue.clone(), before));
            }
        }
    }

    /// Notifies the event loop of the completions that were added without a notification.
    pub(crate) fn flush(&mut self) {
        if let Some((queue, _)) = self.notified.as_ref().filter(|_| self.pending) {
            queue.notify();
        }
        self.pending = false;
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.pending
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_util::FutureExt;

    use super::*;

    fn completion() -> Completion {
        Completion::Unwanted(Ticket(0))
    }

    /// Returns true if the reader was woken since the last call, and registers a waker again.
    fn was_woken(queue: &CompletionQueue) -> bool {
        let woken = queue.0.reader.take().is_none();
        queue.0.reader.register(Waker::noop());
        woken
    }

    #[test]
    fn notifications_are_coalesced() {
        let (queue, mut notifier) = (CompletionQueue::default(), Notifier::default());
        was_woken(&queue);
        notifier.send(&queue, completion());
        assert!(was_woken(&queue) && !notifier.is_pending());
        // A time in the future, so that the interval has not passed even on a slow machine.
        notifier.notified = Some((queue.clone(), Instant::now() + Duration::from_secs(60)));
        notifier.send(&queue, completion());
        assert!(!was_woken(&queue) && notifier.is_pending());
        notifier.flush();
        assert!(was_woken(&queue) && !notifier.is_pending());
        notifier.flush();
        assert!(!was_woken(&queue), "nothing was pending");
        notifier.notified =
            Instant::now().checked_sub(NOTIFY_INTERVAL).map(|at| (queue.clone(), at));
        notifier.send(&queue, completion());
        assert!(was_woken(&queue) && !notifier.is_pending());
    }

    #[test]
    fn other_event_loop_is_notified_at_once() {
        let (a, b) = (CompletionQueue::default(), CompletionQueue::default());
        let mut notifier = Notifier::default();
        was_woken(&a);
        was_woken(&b);
        notifier.notified = Some((a.clone(), Instant::now() + Duration::from_secs(60)));
        notifier.send(&a, completion());
        assert!(!was_woken(&a));
        notifier.send(&b, completion());
        assert!(was_woken(&a) && was_woken(&b), "the previous event loop is notified too");
    }

    #[test]
    fn completions_keep_order_and_free_memory() {
        let count = 2 * u32::try_from(MAX_IDLE_CAPACITY).unwrap();
        let (queue, mut out) = (CompletionQueue::default(), VecDeque::new());
        assert!(!queue.try_recv(&mut out));
        for ticket in 0..=count {
            queue.send(Completion::Unwanted(Ticket(ticket)));
        }
        queue.recv(&mut out).now_or_never().expect("there are completions");
        let tickets = out.drain(..).map(|completion| match completion {
            Completion::Unwanted(ticket) => ticket.0,
            _ => panic!("{completion:?}"),
        });
        assert!(tickets.eq(0..=count));
        assert!(!queue.try_recv(&mut out));
        assert!(out.capacity() == 0 && queue.lock().capacity() == 0);
    }
}
