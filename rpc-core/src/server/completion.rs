//! The completion queue: workers, tasks and other listeners report to an event loop what has ended.
//!
//! To wake a loop costs more than a small function does. So a worker that has more to run may leave a
//! completion without a notification, for [`NOTIFY_INTERVAL`] after the last one. The loop polls the
//! queue [`POLL_INTERVAL`] after it last took something, as long as functions run. A completion that
//! nobody notifies, because the next function takes long, is late by that interval and by the
//! granularity of the timer, which is a millisecond.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;

use crate::handler::HandlerResult;

/// The time after a notification for which a worker may leave further completions without one.
const NOTIFY_INTERVAL: Duration = Duration::from_micros(100);
/// The time after which the loop polls for completions without a notification. It is longer than
/// [`NOTIFY_INTERVAL`], so that the loop finds them.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(1);
const _: () = assert!(NOTIFY_INTERVAL.as_nanos() < POLL_INTERVAL.as_nanos());

/// The number of completions for which an empty queue keeps memory.
const MAX_IDLE_CAPACITY: usize = 4_096;

/// Names a request among those that a listener has in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u32);

/// A message to an event loop about one of its requests.
#[derive(Debug)]
pub(crate) enum Completion {
    /// The function has ended, or never started.
    Ended { ticket: Ticket, result: HandlerResult },
    /// Nobody waits any more for a function that runs under an idempotency key.
    Unwanted(Ticket),
}

/// The completions for one event loop.
///
/// It has no bound of its own. Each admitted request causes one completion, and up to two more if it
/// has an idempotency key; and the number of admitted requests is bounded.
#[derive(Debug, Clone, Default)]
pub(crate) struct CompletionQueue(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    completions: Mutex<VecDeque<Completion>>,
    /// The event loop.
    reader: AtomicWaker,
}

impl CompletionQueue {
    /// Adds a completion and wakes the loop.
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

    /// Waits until there are completions in `out`. Cancel-safe.
    pub(crate) async fn recv(&self, out: &mut VecDeque<Completion>) {
        poll_fn(|cx| {
            if !out.is_empty() || self.try_recv(out) {
                return Poll::Ready(());
            }
            self.0.reader.register(cx.waker());
            // Notified before there was a waker?
            if self.try_recv(out) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Moves all completions to `out`, which is empty. Returns false if there were none.
    pub(crate) fn try_recv(&self, out: &mut VecDeque<Completion>) -> bool {
        if out.capacity() > MAX_IDLE_CAPACITY {
            *out = VecDeque::new();
        }
        std::mem::swap(out, &mut *self.lock());
        !out.is_empty()
    }

    /// Returns true if both are the queue of the same loop.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Completion>> {
        // Nothing panics while it is held.
        self.0.completions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address of a request: the event loop that has it in flight, and its ticket there.
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

/// A worker's side of the completion queues, which coalesces notifications.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    /// The loop that was notified last, and the time.
    notified: Option<(CompletionQueue, Instant)>,
    /// True if that loop has completions that it was not notified of.
    pending: bool,
}

impl Notifier {
    /// Adds a completion, and notifies the loop now or later. The worker must call
    /// [`flush`](Self::flush) before it sleeps.
    pub(crate) fn send(&mut self, queue: &CompletionQueue, completion: Completion) {
        // The loop takes this completion after this moment, and polls again one interval later. So the
        // thread may be preempted anywhere below.
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

    /// Notifies the loop of the completions that it was not notified of.
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

    /// Returns true if the reader was woken since the last look, and registers a reader again.
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
        // As if no time had passed, however slow the machine is.
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
    fn another_loop_is_notified_at_once() {
        let (a, b) = (CompletionQueue::default(), CompletionQueue::default());
        let mut notifier = Notifier::default();
        was_woken(&a);
        was_woken(&b);
        notifier.notified = Some((a.clone(), Instant::now() + Duration::from_secs(60)));
        notifier.send(&a, completion());
        assert!(!was_woken(&a));
        notifier.send(&b, completion());
        assert!(was_woken(&a) && was_woken(&b), "and so is the one before");
    }

    #[test]
    fn completions_come_in_order_and_free_memory() {
        let count = 2 * u32::try_from(MAX_IDLE_CAPACITY).unwrap();
        let (queue, mut out) = (CompletionQueue::default(), VecDeque::new());
        assert!(!queue.try_recv(&mut out));
        for ticket in 0..=count {
            queue.send(Completion::Unwanted(Ticket(ticket)));
        }
        queue.recv(&mut out).now_or_never().expect("there are some");
        let tickets = out.drain(..).map(|completion| match completion {
            Completion::Unwanted(ticket) => ticket.0,
            Completion::Ended { .. } => panic!("{completion:?}"),
        });
        assert!(tickets.eq(0..=count));
        assert!(!queue.try_recv(&mut out));
        assert!(out.capacity() == 0 && queue.lock().capacity() == 0);
    }
}
