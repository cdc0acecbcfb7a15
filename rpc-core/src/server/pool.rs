//! The worker threads: sync functions run here, so that they may compute or block without harm to the I/O.

mod queue;

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use bytes::Bytes;

use self::queue::Queue;
use crate::server::run::Job;

/// A fixed number of threads that run jobs, see [`Queue`] for their order. Dropping it ends them after what is queued;
/// they are not waited for, because a function cannot be interrupted.
#[derive(Debug)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    not_empty: Condvar,
}

/// Tells a job that waits from every other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct JobId {
    peer: Bytes,
    number: u64,
}

impl Pool {
    /// Starts `workers` threads, for which at most `max_waiting` jobs wait.
    pub(crate) fn start(workers: usize, max_waiting: usize) -> io::Result<Self> {
        let queue = Queue::new(max_waiting);
        let shared = Arc::new(Shared { queue: Mutex::new(queue), not_empty: Condvar::new() });
        // Made first, so that threads end if a later one cannot be started.
        let pool = Self(shared);
        for number in 0..workers {
            let shared = Arc::clone(&pool.0);
            thread::Builder::new().name(format!("rpc-worker-{number}")).spawn(move || work(&shared))?;
        }
        Ok(pool)
    }

    /// Queues a job. It comes back if as many wait as may, or too many of its peer.
    pub(crate) fn submit(&self, job: Job) -> Result<JobId, Job> {
        let mut queue = self.0.lock();
        let id = queue.push(job)?;
        drop(queue);
        self.0.not_empty.notify_one();
        Ok(id)
    }

    /// Takes back a job that has not started. `None` if it has.
    pub(crate) fn withdraw(&self, job: &JobId) -> Option<Job> {
        self.0.lock().withdraw(job)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.not_empty.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Jobs run outside it, so nothing panics while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn work(shared: &Shared) {
    let mut queue = shared.lock();
    loop {
        if let Some(job) = queue.pop() {
            drop(queue);
            job.run();
            queue = shared.lock();
        } else if queue.closed {
            return;
        } else {
            queue.idle += 1;
            queue = shared.not_empty.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::server::run::tests::job;

    #[test]
    fn idle_workers_count_beside_what_may_wait() {
        let (done, mut outcomes) = mpsc::unbounded_channel();
        let pool = Pool::start(1, 0).unwrap();
        // Until the worker has come to wait for the first time there is nobody to take it.
        while pool.submit(job(1, &done)).is_err() {
            thread::yield_now();
        }
        assert_eq!(outcomes.blocking_recv().unwrap().ticket(), 1);
    }

    #[test]
    fn workers_run_jobs_and_end_with_the_pool() {
        let (done, mut outcomes) = mpsc::unbounded_channel();
        let pool = Pool::start(2, 100).unwrap();
        for ticket in 0..50 {
            pool.submit(job(ticket, &done)).unwrap();
        }
        drop(pool);
        drop(done);
        let mut tickets = Vec::new();
        // It ends when the last worker has dropped its job: no job is lost.
        while let Some(outcome) = outcomes.blocking_recv() {
            tickets.push(outcome.ticket());
        }
        tickets.sort_unstable();
        assert_eq!(tickets, (0..50).collect::<Vec<_>>());
    }
}
