//! The executor, which starts and stops functions: sync functions on the worker pool, async
//! functions on the runtime of the user.

use std::{sync::Arc, time::Instant};

use tokio::{runtime::Handle, task::AbortHandle};

use crate::server::{
    completion::CompletionQueue,
    invoke::{AdmittedCall, AsyncFn, SyncFn},
    workers::{CHECK_INTERVAL, Job, JobId, Workers},
};

/// A handle to a function that was started, to stop it.
#[derive(Debug)]
pub(crate) enum Started {
    /// A sync function. It can be withdrawn as long as it waits for a worker.
    Job(JobId),
    /// An async function. Its future can be dropped at any time.
    Task(AbortHandle),
}

/// The interface through which dispatch starts and stops functions. Dispatch knows nothing else
/// about threads.
pub(crate) trait Execute {
    /// Queues a sync function for the workers. Idle workers may not be notified of it before
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    /// Returns `Err` if the queue is full or the peer has too many functions in it.
    fn run_sync(&mut self, function: SyncFn, call: AdmittedCall) -> Result<Started, ()>;
    /// Spawns an async function on the runtime.
    fn run_async(&mut self, function: AsyncFn, call: AdmittedCall) -> Started;
    /// Wakes workers for the functions that were queued.
    fn flush(&mut self, now: Instant);
    /// Returns the time at which [`handle_timeout`](Self::handle_timeout) must be called next.
    fn next_timeout(&self) -> Option<Instant>;
    /// Looks after functions that wait for a worker.
    fn handle_timeout(&mut self, now: Instant);
    /// Returns the queue that receives the completions.
    fn completions(&self) -> &CompletionQueue;
    /// Withdraws a sync function that waits for a worker, or drops the future of an async function.
    /// A completion may arrive nevertheless.
    fn stop(&mut self, started: &Started);
}

/// The number of queued jobs after which the workers are woken without a flush, so that the first
/// job does not wait long.
const FLUSH_AFTER: usize = 32;

/// The executor of one listener.
#[derive(Debug)]
pub(crate) struct Executor {
    workers: Arc<Workers>,
    runtime: Handle,
    completions: CompletionQueue,
    /// The number of jobs that were queued since the workers were last woken.
    submitted: usize,
    /// True if jobs were queued since the last flush.
    has_queued: bool,
    /// The time of the next check whether all workers block.
    check_at: Option<Instant>,
}

impl Executor {
    pub(crate) fn new(
        workers: Arc<Workers>,
        runtime: Handle,
        completions: CompletionQueue,
    ) -> Self {
        Self { workers, runtime, completions, submitted: 0, has_queued: false, check_at: None }
    }
}

impl Execute for Executor {
    fn run_sync(&mut self, function: SyncFn, call: AdmittedCall) -> Result<Started, ()> {
        let job = Job { function, call, queue: self.completions.clone() };
        let job = self.workers.submit(job).map(Started::Job).ok_or(());
        self.submitted += 1;
        self.has_queued = true;
        if self.submitted == FLUSH_AFTER {
            self.submitted = 0;
            self.workers.wake();
        }
        job
    }

    fn run_async(&mut self, function: AsyncFn, call: AdmittedCall) -> Started {
        let running = call.run_async(function, self.completions.clone());
        Started::Task(self.runtime.spawn(running).abort_handle())
    }

    fn flush(&mut self, now: Instant) {
        if std::mem::take(&mut self.submitted) > 0 {
            self.workers.wake();
        }
        if std::mem::take(&mut self.has_queued) {
            self.check_at.get_or_insert(now + CHECK_INTERVAL);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.check_at
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.check_at.is_some_and(|at| at <= now) {
            self.check_at = self.workers.relieve(now);
        }
    }

    fn completions(&self) -> &CompletionQueue {
        &self.completions
    }

    fn stop(&mut self, started: &Started) {
        match started {
            Started::Job(job) => drop(self.workers.withdraw(job)),
            Started::Task(task) => task.abort(),
        }
    }
}
