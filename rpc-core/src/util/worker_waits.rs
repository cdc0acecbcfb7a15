//! The workers of a thread pool that wait for something themselves. If all of them wait for work of
//! their own pool, nobody is left to do it.

use std::{
    cell::RefCell,
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
}

thread_local! {
    /// The pool whose worker this thread is.
    static POOL: RefCell<Option<Arc<WorkerWaits>>> = const { RefCell::new(None) };
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
        pool.waiting.fetch_add(1, Ordering::Relaxed);
        Some(Self(pool))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns the number of workers in the pool of this thread if all of them wait, this one included.
pub(crate) fn all_wait() -> Option<usize> {
    let pool = POOL.try_with(|pool| pool.borrow().clone()).ok()??;
    let workers = pool.workers.load(Ordering::Relaxed);
    (pool.waiting.load(Ordering::Relaxed) >= workers).then_some(workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_worker_that_waits_is_noticed() {
        let pool = Arc::new(WorkerWaits::default());
        assert!(Waiting::begin().is_none() && all_wait().is_none(), "it is no worker");
        WorkerWaits::join(&pool);
        let other = Arc::clone(&pool);
        std::thread::spawn(move || {
            WorkerWaits::join(&other);
            let _waiting = Waiting::begin().unwrap();
            assert_eq!(all_wait(), None, "one of two waits");
            other.leave();
        })
        .join()
        .unwrap();
        let waiting = Waiting::begin();
        assert_eq!(all_wait(), Some(1));
        drop(waiting);
        assert_eq!(all_wait(), None);
    }
}
