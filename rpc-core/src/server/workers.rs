//! The worker pool. Its threads run sync functions, which may compute or block without delaying the
//! I/O.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    peer::PeerId,
    server::{
        completion::{CompletionQueue, Notifier},
        invoke::{AdmittedCall, SyncFn},
    },
    util::{
        fair_queue::{FairQueue, Position},
        worker_waits::WorkerWaits,
    },
};

/// The shortest time without progress after which threads are added.
pub(crate) const STUCK_AFTER: Duration = Duration::from_millis(10);
/// The time for which an added thread waits for a job before it ends.
const IDLE_TIME: Duration = Duration::from_secs(10);

/// The number of threads of a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolSize {
    /// The number of threads that are always there.
    pub(crate) threads: usize,
    /// The number up to which threads are added while no job is taken, because all threads block.
    pub(crate) max_threads: usize,
}

/// A pool of threads that run jobs. They serve the peers round-robin, see [`FairQueue`].
///
/// Functions that compute need one thread for each core. Functions that block need more. The pool
/// cannot tell them apart in advance, so it adds threads only when jobs wait and none is taken for
/// [`STUCK_AFTER`].
///
/// The threads end once the pool was dropped and the queue is empty. They are not joined, because
/// a running function cannot be interrupted.
#[derive(Debug)]
pub(crate) struct Workers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    not_empty: Condvar,
    size: PoolSize,
    waits: Arc<WorkerWaits>,
}

#[derive(Debug)]
struct State {
    queue: FairQueue<PeerId, Job>,
    /// The number of threads that wait for a job.
    idle: usize,
    threads: usize,
    /// The number of jobs that were taken so far.
    taken: u64,
    /// The value of `taken` at the last check, and the time of that check.
    checked: Option<(u64, Instant)>,
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
    /// Starts the threads that are always there. At most `max_waiting` jobs may wait for them, and
    /// one more for each idle thread.
    pub(crate) fn start(size: PoolSize, max_waiting: usize) -> io::Result<Self> {
        let state = State {
            queue: FairQueue::new(max_waiting, PeerId::detached),
            idle: 0,
            threads: 0,
            taken: 0,
            checked: None,
            closed: false,
        };
        // Created before the threads: if a thread cannot be started, the drop of the pool ends the
        // threads that were started before it.
        let workers = Self(Arc::new(Shared {
            state: Mutex::new(state),
            not_empty: Condvar::new(),
            size,
            waits: Arc::new(WorkerWaits::new(size.threads.max(size.max_threads))),
        }));
        for _ in 0..size.threads {
            workers.add_thread(false)?;
        }
        Ok(workers)
    }

    /// Starts one more thread. An `added` one ends when it has been idle for a while.
    fn add_thread(&self, added: bool) -> io::Result<()> {
        let number = {
            let mut state = self.0.lock();
            state.threads += 1;
            state.threads - 1
        };
        let shared = Arc::clone(&self.0);
        let started =
            thread::Builder::new().name(format!("rpc-worker-{number}")).spawn(move || {
                WorkerWaits::join(&shared.waits);
                work(&shared, added);
            });
        started.map(drop).inspect_err(|_| self.0.lock().threads -= 1)
    }

    /// Adds threads if jobs wait and none was taken since the last check. Returns the time of the
    /// next check if jobs still wait for a thread.
    pub(crate) fn relieve(&self, now: Instant) -> Option<Instant> {
        let wanted = {
            let mut state = self.0.lock();
            if state.queue.len() == 0 {
                state.checked = None;
                return None;
            }
            // An idle thread has been notified, and takes a job soon.
            let is_stuck = |(taken, _): &(u64, _)| *taken == state.taken && state.idle == 0;
            let since = state.checked.filter(is_stuck);
            match since {
                // Event loops check independently, so that the last check may be very recent.
                Some((_, at)) if now < at + STUCK_AFTER => return Some(at + STUCK_AFTER),
                Some(_) => {
                    let more = state.threads.max(1).min(state.queue.len());
                    state.checked = Some((state.taken, now));
                    more.min(self.0.size.max_threads.saturating_sub(state.threads))
                }
                None => {
                    state.checked = Some((state.taken, now));
                    0
                }
            }
        };
        for _ in 0..wanted {
            if let Err(error) = self.add_thread(true) {
                tracing::warn!(%error, "all workers block, and another one cannot be started");
                break;
            }
        }
        Some(now + STUCK_AFTER)
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

/// Runs jobs on a worker thread until the pool is closed and the queue is empty. An `added` thread
/// ends earlier, when it has been idle for a while.
fn work(shared: &Shared, added: bool) {
    let mut notifier = Notifier::default();
    let mut state = shared.lock();
    loop {
        if let Some(Job { function, call, queue }) = state.queue.pop() {
            state.taken += 1;
            drop(state);
            let completion = call.run(function);
            notifier.send(&queue, completion);
            state = shared.lock();
        } else if notifier.is_pending() {
            drop(state);
            notifier.flush();
            state = shared.lock();
        } else if state.closed {
            break;
        } else {
            state.idle += 1;
            let idle_time = if added { IDLE_TIME } else { Duration::MAX };
            let timed_out;
            (state, timed_out) = shared
                .not_empty
                .wait_timeout(state, idle_time)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
            if added && timed_out.timed_out() && state.queue.len() == 0 {
                break;
            }
        }
    }
    state.threads -= 1;
}

#[cfg(test)]
mod tests;
