//! Starts and stops functions: sync ones on the workers, async ones on the user's runtime.

use std::sync::Arc;

use tokio::{runtime::Handle, task::AbortHandle};

use crate::server::{
    completion::CompletionQueue,
    invoke::{AdmittedCall, AsyncFn, SyncFn},
    workers::{Job, JobId, Workers},
};

/// A function that was started, as far as it can be stopped.
#[derive(Debug)]
pub(crate) enum Started {
    /// A sync function, which can be withdrawn as long as it waits for a worker.
    Job(JobId),
    /// An async function, which can be dropped.
    Task(AbortHandle),
}

/// Starts and stops functions. Dispatch knows no more of threads than this.
pub(crate) trait Execute {
    /// Gives a sync function to the workers, which perhaps begin with it only at
    /// [`flush`](Self::flush). Returns `Err` if too many wait.
    fn run_sync(&mut self, function: SyncFn, call: AdmittedCall) -> Result<Started, ()>;
    /// Gives an async function to the runtime.
    fn run_async(&mut self, function: AsyncFn, call: AdmittedCall) -> Started;
    /// Wakes workers for the functions that they were given.
    fn flush(&mut self);
    /// The queue that completions go to.
    fn completions(&self) -> &CompletionQueue;
    /// Withdraws a sync function that waits, or drops an async one. There may be a completion all the
    /// same.
    fn stop(&mut self, started: &Started);
}

/// The number of jobs after which workers are woken in any case, so that the first need not wait long.
const FLUSH_AFTER: usize = 32;

/// Runs functions for one listener.
#[derive(Debug)]
pub(crate) struct Executor {
    workers: Arc<Workers>,
    runtime: Handle,
    completions: CompletionQueue,
    /// The number of jobs that workers were not woken for.
    submitted: usize,
}

impl Executor {
    pub(crate) fn new(
        workers: Arc<Workers>,
        runtime: Handle,
        completions: CompletionQueue,
    ) -> Self {
        Self { workers, runtime, completions, submitted: 0 }
    }
}

impl Execute for Executor {
    fn run_sync(&mut self, function: SyncFn, call: AdmittedCall) -> Result<Started, ()> {
        let job = Job { function, call, queue: self.completions.clone() };
        let job = self.workers.submit(job).map(Started::Job).map_err(drop);
        self.submitted += 1;
        if self.submitted == FLUSH_AFTER {
            self.flush();
        }
        job
    }

    fn run_async(&mut self, function: AsyncFn, call: AdmittedCall) -> Started {
        let running = call.run_async(function, self.completions.clone());
        Started::Task(self.runtime.spawn(running).abort_handle())
    }

    fn flush(&mut self) {
        if std::mem::take(&mut self.submitted) > 0 {
            self.workers.wake();
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
