//! The worker threads: sync functions run here, so that they may compute or block without harm to the I/O.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use crate::server::run::Job;

/// A fixed number of threads that run jobs, first in, first out. Dropping it ends them after what is queued; they
/// are not waited for, because a function cannot be interrupted.
#[derive(Debug)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    not_empty: Condvar,
}

#[derive(Debug)]
struct Queue {
    /// In order of their numbers. `None` stands for a job that was taken back.
    jobs: VecDeque<(JobNumber, Option<Job>)>,
    /// How many of them are still to run; one more than `limit` and the `idle` workers is refused.
    waiting: usize,
    limit: usize,
    idle: usize,
    next: JobNumber,
    closed: bool,
}

/// Tells a job that waits from every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct JobNumber(u64);

impl Pool {
    /// Starts `workers` threads, for which at most `max_waiting` jobs wait.
    pub(crate) fn start(workers: usize, max_waiting: usize) -> io::Result<Self> {
        let queue = Queue {
            jobs: VecDeque::new(),
            waiting: 0,
            limit: max_waiting,
            idle: 0,
            next: JobNumber(0),
            closed: false,
        };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), not_empty: Condvar::new() });
        // Made first, so that threads end if a later one cannot be started.
        let pool = Self(shared);
        for number in 0..workers {
            let shared = Arc::clone(&pool.0);
            thread::Builder::new().name(format!("rpc-worker-{number}")).spawn(move || work(&shared))?;
        }
        Ok(pool)
    }

    /// Queues a job. It comes back if as many wait as may.
    pub(crate) fn submit(&self, job: Job) -> Result<JobNumber, Job> {
        let mut queue = self.0.lock();
        let number = queue.push(job)?;
        drop(queue);
        self.0.not_empty.notify_one();
        Ok(number)
    }

    /// Takes back a job that has not started. `None` if it has.
    pub(crate) fn withdraw(&self, number: JobNumber) -> Option<Job> {
        self.0.lock().withdraw(number)
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

impl Queue {
    fn push(&mut self, job: Job) -> Result<JobNumber, Job> {
        if self.waiting >= self.limit + self.idle {
            return Err(job);
        }
        let number = self.next;
        self.next = JobNumber(number.0 + 1);
        self.jobs.push_back((number, Some(job)));
        self.waiting += 1;
        Ok(number)
    }

    fn pop(&mut self) -> Option<Job> {
        while let Some((_, job)) = self.jobs.pop_front() {
            if let Some(job) = job {
                self.waiting -= 1;
                return Some(job);
            }
        }
        None
    }

    fn withdraw(&mut self, number: JobNumber) -> Option<Job> {
        let index = self.jobs.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let job = self.jobs[index].1.take()?;
        self.waiting -= 1;
        // Workers that are all busy take nothing out, so the gaps are closed here when they are the greater part.
        if self.jobs.len() > 2 * self.waiting + 64 {
            self.jobs.retain(|(_, job)| job.is_some());
        }
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::server::run::tests::job;

    fn queue(limit: usize) -> Queue {
        Queue { jobs: VecDeque::new(), waiting: 0, limit, idle: 0, next: JobNumber(0), closed: false }
    }

    #[test]
    fn jobs_wait_in_order_up_to_the_limit() {
        let (done, _outcomes) = mpsc::unbounded_channel();
        let mut queue = queue(2);
        queue.push(job(1, &done)).unwrap();
        queue.push(job(2, &done)).unwrap();
        assert!(queue.push(job(3, &done)).is_err());
        assert_eq!(queue.pop().unwrap().ticket().0, 1);
        queue.push(job(3, &done)).unwrap();
        assert_eq!(queue.pop().unwrap().ticket().0, 2);
        assert_eq!(queue.pop().unwrap().ticket().0, 3);
        assert!(queue.pop().is_none());
    }

    #[test]
    fn what_was_taken_back_never_runs_and_makes_room() {
        let (done, _outcomes) = mpsc::unbounded_channel();
        let mut queue = queue(2);
        let first = queue.push(job(1, &done)).unwrap();
        queue.push(job(2, &done)).unwrap();
        assert_eq!(queue.withdraw(first).unwrap().ticket().0, 1);
        assert!(queue.withdraw(first).is_none());
        queue.push(job(3, &done)).unwrap();
        assert_eq!(queue.pop().unwrap().ticket().0, 2);
        assert_eq!(queue.pop().unwrap().ticket().0, 3);
        assert!(queue.withdraw(JobNumber(2)).is_none());
    }

    #[test]
    fn taking_back_leaves_nothing_behind() {
        let (done, _outcomes) = mpsc::unbounded_channel();
        let mut queue = queue(10);
        queue.push(job(0, &done)).unwrap();
        for ticket in 1..10_000 {
            let number = queue.push(job(ticket, &done)).unwrap();
            queue.withdraw(number).unwrap();
        }
        assert!(queue.jobs.len() <= 67, "{}", queue.jobs.len());
        assert_eq!(queue.pop().unwrap().ticket().0, 0);
    }

    #[test]
    fn idle_workers_count_beside_what_may_wait() {
        let (done, mut outcomes) = mpsc::unbounded_channel();
        let pool = Pool::start(1, 0).unwrap();
        // Until the worker has come to wait for the first time there is nobody to take it.
        while pool.submit(job(1, &done)).is_err() {
            thread::yield_now();
        }
        assert_eq!(outcomes.blocking_recv().unwrap().ticket.0, 1);
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
            tickets.push(outcome.ticket.0);
        }
        tickets.sort_unstable();
        assert_eq!(tickets, (0..50).collect::<Vec<_>>());
    }
}
