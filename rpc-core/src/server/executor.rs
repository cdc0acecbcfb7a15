//! The executor, which starts and stops functions: sync functions on the worker pool, async
//! functions on the runtime of the user.

use std::{sync::Arc, time::Instant};

use async_task::Task;
use tokio::{runtime::Handle, task::AbortHandle};

use crate::{
    function::Execution,
    outlet::Outlet,
    server::{
        completion::{Completion, CompletionQueue},
        invoke::{AdmittedCall, AsyncFn, StreamFn, SyncFn},
        workers::{CHECK_INTERVAL, Job, JobId, Workers},
    },
};

/// A handle to a function that was started, to stop it.
#[derive(Debug)]
pub(crate) enum Started {
    /// A sync function. It can be withdrawn as long as it waits for a worker.
    Job(JobId),
    /// An async function. Its future can be dropped at any time.
    Task(AbortHandle),
    /// A sync function that returns a stream, with its first turn. Its future is dropped after its
    /// task is.
    Turns { first: JobId, task: Option<Task<()>> },
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
    /// Starts a function that returns a stream, whose items go through `outlet`: a sync function on
    /// the workers, in turns, and an async one on the runtime.
    ///
    /// # Errors
    /// Returns `Err` as [`run_sync`](Self::run_sync) does.
    fn run_stream(
        &mut self,
        function: StreamFn,
        execution: Execution,
        outlet: Outlet,
        call: AdmittedCall,
    ) -> Result<Started, ()>;
    /// Wakes workers for the functions that were queued.
    fn flush(&mut self, now: Instant);
    /// Looks after functions that wait for a worker, from now on.
    fn watch(&mut self, now: Instant);
    /// Returns the time at which [`handle_timeout`](Self::handle_timeout) must be called next.
    fn next_timeout(&self) -> Option<Instant>;
    /// Looks after functions that wait for a worker.
    fn handle_timeout(&mut self, now: Instant);
    /// Returns the queue that receives the completions.
    fn completions(&self) -> &CompletionQueue;
    /// Withdraws a sync function that waits for a worker, or drops the future of an async function.
    /// A completion may arrive nevertheless.
    fn stop(&mut self, started: &mut Started);
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

impl Executor {
    /// Notes a job for the workers, and wakes some of them if there are many.
    fn note_submitted(&mut self) {
        self.submitted += 1;
        self.has_queued = true;
        if self.submitted == FLUSH_AFTER {
            self.submitted = 0;
            self.workers.wake();
        }
    }
}

impl Execute for Executor {
    fn run_sync(&mut self, function: SyncFn, call: AdmittedCall) -> Result<Started, ()> {
        let holder = call.invocation.context().peer_id().holder().clone();
        let job = Job::Call { function, call, queue: self.completions.clone() };
        let job = self.workers.submit(holder, job).map(Started::Job).ok_or(());
        self.note_submitted();
        job
    }

    fn run_async(&mut self, function: AsyncFn, call: AdmittedCall) -> Started {
        let running = call.run_async(function, self.completions.clone());
        Started::Task(self.runtime.spawn(running).abort_handle())
    }

    fn run_stream(
        &mut self,
        function: StreamFn,
        execution: Execution,
        outlet: Outlet,
        call: AdmittedCall,
    ) -> Result<Started, ()> {
        let holder = call.invocation.context().peer_id().holder().clone();
        let start = move |invocation| function(invocation, outlet);
        let running = call.run_async(start, self.completions.clone());
        if execution == Execution::Async {
            return Ok(Started::Task(self.runtime.spawn(running).abort_handle()));
        }
        let queue = self.completions.clone();
        let spawned = self.workers.spawn(holder, running, move || queue.send(Completion::Waits));
        self.note_submitted();
        spawned.map(|(first, task)| Started::Turns { first, task: Some(task) }).ok_or(())
    }

    fn flush(&mut self, now: Instant) {
        if std::mem::take(&mut self.submitted) > 0 {
            self.workers.wake();
        }
        if std::mem::take(&mut self.has_queued) {
            self.watch(now);
        }
    }

    fn watch(&mut self, now: Instant) {
        self.check_at.get_or_insert(now + CHECK_INTERVAL);
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

    fn stop(&mut self, started: &mut Started) {
        match started {
            Started::Job(job) => drop(self.workers.withdraw(job)),
            Started::Task(task) => task.abort(),
            Started::Turns { first, task } => {
                drop(self.workers.withdraw(first));
                drop(task.take());
            }
        }
    }
}
