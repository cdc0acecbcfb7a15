//! The workers of a thread pool that wait for something themselves. If all of them wait for work of
//! their own pool, nobody is left to do it.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The numbers of workers of one pool.
#[derive(Debug, Default)]
pub(crate) struct WorkerWaits {
    workers: AtomicUsize,
    waiting: AtomicUsize,
    /// The number of times that a worker was the last one to begin to wait.
    standstills: AtomicUsize,
}

thread_local! {
    /// The pool whose worker this thread is.
    static POOL: RefCell<Option<Arc<WorkerWaits>>> = const { RefCell::new(None) };
    /// The number of standstills when this worker began to wait.
    static BEFORE: Cell<usize> = const { Cell::new(0) };
}

/// A worker that waits, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<WorkerWaits>);

impl WorkerWaits {
    /// Makes this thread a worker of the pool, for as long as it runs.
    pub(crate) fn join(pool: &Arc<Self>) {
        pool.workers.fetch_add(1, Ordering::Relaxed);
        POOL.set(Some(Arc::clone(pool)));
    }

    /// Ends what [`join`](Self::join) has begun.
    pub(crate) fn leave(&self) {
        self.workers.fetch_sub(1, Ordering::Relaxed);
        POOL.set(None);
    }
}

impl Waiting {
    /// Notes that this thread waits. `None` if it is no worker.
    pub(crate) fn begin() -> Option<Self> {
        let pool = POOL.try_with(|pool| pool.borrow().clone()).ok()??;
        BEFORE.set(pool.standstills.load(Ordering::Acquire));
        let waiting = pool.waiting.fetch_add(1, Ordering::AcqRel) + 1;
        if waiting >= pool.workers.load(Ordering::Relaxed) {
            pool.standstills.fetch_add(1, Ordering::Release);
        }
        Some(Self(pool))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns the number of workers in the pool of this thread if all of them have waited at the same
/// time, since this one began to wait.
pub(crate) fn all_waited() -> Option<usize> {
    let pool = POOL.try_with(|pool| pool.borrow().clone()).ok()??;
    let since = pool.standstills.load(Ordering::Acquire) != BEFORE.get();
    since.then(|| pool.workers.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_worker_that_waits_is_noticed() {
        let pool = Arc::new(WorkerWaits::default());
        assert!(Waiting::begin().is_none() && all_waited().is_none(), "it is no worker");
        WorkerWaits::join(&pool);
        let (other, own) = (Arc::clone(&pool), Waiting::begin());
        assert_eq!(all_waited(), Some(1));
        drop(own);
        let own = std::thread::spawn(move || {
            WorkerWaits::join(&other);
            let first = Waiting::begin().unwrap();
            assert_eq!(all_waited(), None, "one of two waits");
            (other, first)
        });
        let (_other, first) = own.join().unwrap();
        let second = Waiting::begin();
        // The first one ends a little earlier.
        drop(first);
        assert_eq!(all_waited(), Some(2));
        drop(second);
        let _alone = Waiting::begin();
        assert_eq!(all_waited(), None);
    }
}
