//! The worker threads: sync functions run here, so that they may compute or block without harm to
//! the I/O.

mod queue;

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use bytes::Bytes;

use self::queue::Queue;
use crate::server::{outbox::Announcer, run::Job};

/// A fixed number of threads that run jobs, see [`Queue`] for their order. Dropping it ends them
/// after what is queued; they are not waited for, because a function cannot be interrupted.
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
            thread::Builder::new()
                .name(format!("rpc-worker-{number}"))
                .spawn(move || work(&shared))?;
        }
        Ok(pool)
    }

    /// Queues a job. It comes back if as many wait as may, or too many of its peer. To wake a
    /// thread costs more than many functions do: workers that wait need not notice before
    /// [`wake`](Self::wake).
    pub(crate) fn submit(&self, job: Job) -> Result<JobId, Job> {
        self.0.lock().push(job)
    }

    /// Wakes as many workers as there are jobs for.
    pub(crate) fn wake(&self) {
        let wanted = self.0.lock().wanted();
        for _ in 0..wanted {
            self.0.not_empty.notify_one();
        }
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
    let mut announcer = Announcer::default();
    let mut queue = shared.lock();
    loop {
        if let Some(job) = queue.pop() {
            drop(queue);
            job.run(&mut announcer);
            queue = shared.lock();
        } else if announcer.is_owing() {
            drop(queue);
            announcer.announce();
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
    use std::collections::VecDeque;

    use super::*;
    use crate::server::{outbox::Outbox, run::tests::job};

    fn block_on(future: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future);
    }

    #[test]
    fn idle_workers_count_beside_what_may_wait() {
        let done = Outbox::default();
        let pool = Pool::start(1, 0).unwrap();
        // Until the worker has come to wait for the first time there is nobody to take it.
        while pool.submit(job(1, &done)).is_err() {
            thread::yield_now();
        }
        pool.wake();
        let mut news = VecDeque::new();
        block_on(done.recv(&mut news));
        assert_eq!(news.pop_front().unwrap().ticket(), 1);
    }

    #[test]
    fn workers_run_jobs_and_end_with_the_pool() {
        let done = Outbox::default();
        let pool = Pool::start(2, 100).unwrap();
        for ticket in 0..50 {
            pool.submit(job(ticket, &done)).unwrap();
        }
        drop(pool);
        let (mut tickets, mut news) = (Vec::new(), VecDeque::new());
        while tickets.len() < 50 {
            block_on(done.recv(&mut news));
            tickets.extend(news.drain(..).map(|news| news.ticket()));
        }
        tickets.sort_unstable();
        assert_eq!(tickets, (0..50).collect::<Vec<_>>());
    }
}
