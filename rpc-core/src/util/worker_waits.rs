//! The workers of a thread pool that wait for something themselves. If all of them wait for work of
//! their own pool, nobody is left to do it.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The workers of one pool that wait.
#[derive(Debug)]
pub(crate) struct WorkerWaits {
    /// The largest number of workers. As long as there are fewer, the pool adds one.
    most: usize,
    waiting: AtomicUsize,
    /// The number of times that a worker was the last one of all to begin to wait.
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
    /// Makes the waits of a pool of at most `most` workers.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, waiting: AtomicUsize::new(0), standstills: AtomicUsize::new(0) }
    }

    /// Makes this thread a worker of the pool, for as long as it runs.
    pub(crate) fn join(pool: &Arc<Self>) {
        POOL.set(Some(Arc::clone(pool)));
    }
}

impl Waiting {
    /// Notes that this thread waits. `None` if it is no worker.
    pub(crate) fn begin() -> Option<Self> {
        let pool = POOL.try_with(|pool| pool.borrow().clone()).ok()??;
        BEFORE.set(pool.standstills.load(Ordering::Acquire));
        let waiting = pool.waiting.fetch_add(1, Ordering::AcqRel) + 1;
        if waiting >= pool.most {
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

/// Returns the largest number of workers in the pool of this thread if so many have waited at the
/// same time, since this one began to wait.
pub(crate) fn all_waited() -> Option<usize> {
    let pool = POOL.try_with(|pool| pool.borrow().clone()).ok()??;
    let since = pool.standstills.load(Ordering::Acquire) != BEFORE.get();
    since.then_some(pool.most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_worker_that_waits_is_noticed() {
        let pool = Arc::new(WorkerWaits::new(2));
        assert!(Waiting::begin().is_none() && all_waited().is_none(), "it is no worker");
        WorkerWaits::join(&pool);
        let other = Arc::clone(&pool);
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
