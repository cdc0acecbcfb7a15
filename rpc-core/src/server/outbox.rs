//! Where workers, tasks and other listeners put what a listener's loop is to know.
//!
//! To wake the loop costs more than a small function does, so a worker that has more to run may
//! leave its news [unannounced](Outbox::put): for [`UNANNOUNCED`] from before it put the news there
//! that it woke the loop for. The loop looks again [`LOOK_AGAIN`] after it took news, as long as
//! something runs. So news that nobody announces, because the next function takes long, are late by
//! that time at most, and what the timer adds: it counts in milliseconds.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;

use crate::server::run::News;

/// How long after it has woken the loop a worker may go on without doing so again.
const UNANNOUNCED: Duration = Duration::from_micros(100);
/// When the loop looks for what was not announced. More than [`UNANNOUNCED`], so that it finds it.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(1);
const _: () = assert!(UNANNOUNCED.as_nanos() < LOOK_AGAIN.as_nanos());

/// For how many news memory is kept while there are none.
const KEPT: usize = 4_096;

/// News for one listener's loop. Not bounded by itself: each admitted request sends one outcome,
/// and one more if it has a key, and is unwanted once; and requests are bounded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outbox(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    news: Mutex<VecDeque<News>>,
    /// Whoever waits for news: the loop.
    reader: AtomicWaker,
}

impl Outbox {
    /// Tells the loop.
    pub(crate) fn send(&self, news: News) {
        self.put(news);
        self.announce();
    }

    fn put(&self, news: News) {
        self.lock().push_back(news);
    }

    fn announce(&self) {
        self.0.reader.wake();
    }

    /// Waits until there are news in `out`. Cancel-safe.
    pub(crate) async fn recv(&self, out: &mut VecDeque<News>) {
        poll_fn(|cx| {
            if !out.is_empty() || self.take(out) {
                return Poll::Ready(());
            }
            self.0.reader.register(cx.waker());
            // Announced before there was somebody to wake?
            if self.take(out) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Moves what is there to `out`, which is empty, and tells whether there was something.
    pub(crate) fn take(&self, out: &mut VecDeque<News>) -> bool {
        if out.capacity() > KEPT {
            *out = VecDeque::new();
        }
        std::mem::swap(out, &mut *self.lock());
        !out.is_empty()
    }

    /// Whether it is the same loop's.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<News>> {
        // Nothing panics while it is held.
        self.0.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker's way to its loops, which it need not wake for each of its outcomes.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    /// The loop that was woken last, and when that was.
    woken: Option<(Outbox, Instant)>,
    /// There are news that it was not woken for.
    owes: bool,
}

impl Announcer {
    /// Tells the loop, now or soon. [`announce`](Self::announce) is to be called before the worker
    /// waits.
    pub(crate) fn send(&mut self, outbox: &Outbox, news: News) {
        // The loop takes these news after this moment, and looks again so much later: the thread
        // may stop anywhere between these lines.
        let before = Instant::now();
        outbox.put(news);
        let soon_enough = |at: &Instant| at.elapsed() < UNANNOUNCED;
        match &self.woken {
            Some((woken, at)) if woken.is_same(outbox) && soon_enough(at) => self.owes = true,
            _ => {
                self.announce();
                outbox.announce();
                self.woken = Some((outbox.clone(), before));
            }
        }
    }

    /// Wakes the loop if there are news that it was not woken for.
    pub(crate) fn announce(&mut self) {
        if let Some((woken, _)) = self.woken.as_ref().filter(|_| self.owes) {
            woken.announce();
        }
        self.owes = false;
    }

    /// Whether there are.
    pub(crate) fn is_owing(&self) -> bool {
        self.owes
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_util::FutureExt;

    use super::*;
    use crate::server::run::Ticket;

    fn news() -> News {
        News::Unwanted(Ticket(0))
    }

    /// Whether whoever waits was woken; from now on there is somebody.
    fn was_woken(outbox: &Outbox) -> bool {
        let woken = outbox.0.reader.take().is_none();
        outbox.0.reader.register(Waker::noop());
        woken
    }

    #[test]
    fn a_worker_that_has_just_woken_the_loop_may_owe_that() {
        let (outbox, mut announcer) = (Outbox::default(), Announcer::default());
        was_woken(&outbox);
        announcer.send(&outbox, news());
        assert!(was_woken(&outbox) && !announcer.is_owing());
        // As if no time had passed, whatever the machine does meanwhile.
        announcer.woken = Some((outbox.clone(), Instant::now() + Duration::from_secs(60)));
        announcer.send(&outbox, news());
        assert!(!was_woken(&outbox) && announcer.is_owing());
        announcer.announce();
        assert!(was_woken(&outbox) && !announcer.is_owing());
        announcer.announce();
        assert!(!was_woken(&outbox), "it owes nothing");
        announcer.woken = Instant::now().checked_sub(UNANNOUNCED).map(|at| (outbox.clone(), at));
        announcer.send(&outbox, news());
        assert!(was_woken(&outbox) && !announcer.is_owing());
    }

    #[test]
    fn another_loop_is_woken_and_so_is_the_one_before() {
        let (a, b, mut announcer) = (Outbox::default(), Outbox::default(), Announcer::default());
        was_woken(&a);
        was_woken(&b);
        announcer.woken = Some((a.clone(), Instant::now() + Duration::from_secs(60)));
        announcer.send(&a, news());
        assert!(!was_woken(&a));
        announcer.send(&b, news());
        assert!(was_woken(&a) && was_woken(&b));
    }

    #[test]
    fn news_are_taken_in_their_order_and_leave_no_memory() {
        let (outbox, mut out) = (Outbox::default(), VecDeque::new());
        assert!(!outbox.take(&mut out));
        for ticket in 0..=2 * u32::try_from(KEPT).unwrap() {
            outbox.send(News::Unwanted(Ticket(ticket)));
        }
        outbox.recv(&mut out).now_or_never().expect("there are some");
        let tickets = out.drain(..).map(|news| match news {
            News::Unwanted(ticket) => ticket.0,
            News::Outcome(_) => panic!("{news:?}"),
        });
        assert!(tickets.eq(0..=2 * u32::try_from(KEPT).unwrap()));
        assert!(!outbox.take(&mut out));
        assert!(out.capacity() == 0 && outbox.lock().capacity() == 0);
    }
}
