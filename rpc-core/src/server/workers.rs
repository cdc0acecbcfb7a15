//! The worker pool. Its threads run sync functions, which may compute or block without delaying the
//! I/O.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use crate::{
    peer::PeerId,
    server::{
        completion::{CompletionQueue, Notifier},
        invoke::{AdmittedCall, SyncFn},
    },
    util::fair_queue::{FairQueue, Position},
};

/// A fixed number of threads that run jobs. They serve the peers round-robin, see [`FairQueue`].
///
/// The threads end once the pool was dropped and the queue is empty. They are not joined, because
/// a running function cannot be interrupted.
#[derive(Debug)]
pub(crate) struct Workers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    not_empty: Condvar,
}

#[derive(Debug)]
struct State {
    queue: FairQueue<PeerId, Job>,
    /// The number of threads that wait for a job.
    idle: usize,
    closed: bool,
}

/// A call of a sync function that waits for a worker.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) function: SyncFn,
    pub(crate) call: AdmittedCall,
    pub(crate) queue: CompletionQueue,
}

/// The identifier of a job that waits.
pub(crate) type JobId = Position<PeerId>;

impl Workers {
    /// Starts `threads` threads. At most `max_waiting` jobs may wait for them, and one more for
    /// each idle thread.
    pub(crate) fn start(threads: usize, max_waiting: usize) -> io::Result<Self> {
        let state =
            State { queue: FairQueue::new(max_waiting, PeerId::detached), idle: 0, closed: false };
        // Created before the threads: if a thread cannot be started, the drop of the pool ends the
        // threads that were started before it.
        let workers =
            Self(Arc::new(Shared { state: Mutex::new(state), not_empty: Condvar::new() }));
        for number in 0..threads {
            let shared = Arc::clone(&workers.0);
            let name = format!("rpc-worker-{number}");
            thread::Builder::new().name(name).spawn(move || work(&shared))?;
        }
        Ok(workers)
    }

    /// Queues a job, or returns it if the queue is full or the peer has too many jobs in it.
    ///
    /// Idle workers are not notified until [`wake`](Self::wake) is called, because waking a thread
    /// takes longer than many functions.
    pub(crate) fn submit(&self, job: Job) -> Result<JobId, Job> {
        let peer = job.call.invocation.context().peer_id().clone();
        let mut state = self.0.lock();
        let idle = state.idle;
        state.queue.push(peer, job, idle)
    }

    /// Wakes one idle worker for each waiting job, as far as there are idle workers.
    pub(crate) fn wake(&self) {
        let state = self.0.lock();
        let wanted = state.queue.len().min(state.idle);
        drop(state);
        for _ in 0..wanted {
            self.0.not_empty.notify_one();
        }
    }

    /// Removes a job from the queue. Returns `None` if a worker has taken it already.
    pub(crate) fn withdraw(&self, job: &JobId) -> Option<Job> {
        self.0.lock().queue.remove(job)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.not_empty.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock can be ignored: jobs run without the lock, and nothing else panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs jobs on a worker thread until the pool is closed and the queue is empty.
fn work(shared: &Shared) {
    let mut notifier = Notifier::default();
    let mut state = shared.lock();
    loop {
        if let Some(Job { function, call, queue }) = state.queue.pop() {
            drop(state);
            let completion = call.run(function);
            notifier.send(&queue, completion);
            state = shared.lock();
        } else if notifier.is_pending() {
            drop(state);
            notifier.flush();
            state = shared.lock();
        } else if state.closed {
            return;
        } else {
            state.idle += 1;
            state = shared.not_empty.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::server::{
        completion::Completion,
        invoke::tests::{admitted_call, nothing},
    };

    fn job(ticket: u32, queue: &CompletionQueue) -> Job {
        Job { function: nothing, call: admitted_call("", ticket), queue: queue.clone() }
    }

    /// Waits for completions, and returns their tickets.
    fn tickets(queue: &CompletionQueue) -> Vec<u32> {
        let mut completions = VecDeque::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(queue.recv(&mut completions));
        let ticket = |completion| match completion {
            Completion::Ended { ticket, .. } => ticket.0,
            Completion::Unwanted(_) | Completion::Window { .. } => panic!("{completion:?}"),
        };
        completions.into_iter().map(ticket).collect()
    }

    #[test]
    fn idle_workers_extend_the_queue_limit() {
        let queue = CompletionQueue::default();
        let workers = Workers::start(1, 0).unwrap();
        // The job is refused until the worker has started and is idle.
        while workers.submit(job(1, &queue)).is_err() {
            thread::yield_now();
        }
        workers.wake();
        assert_eq!(tickets(&queue), [1]);
    }

    #[test]
    fn dropped_workers_run_all_queued_jobs() {
        let queue = CompletionQueue::default();
        let workers = Workers::start(2, 100).unwrap();
        for ticket in 0..50 {
            workers.submit(job(ticket, &queue)).unwrap();
        }
        drop(workers);
        let mut all = Vec::new();
        while all.len() < 50 {
            all.extend(tickets(&queue));
        }
        all.sort_unstable();
        assert_eq!(all, (0..50).collect::<Vec<_>>());
    }
}
