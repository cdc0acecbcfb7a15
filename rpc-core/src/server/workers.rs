//! The worker pool. Its threads run sync functions, which may compute or block without delaying the
//! I/O.

use std::{
    io, mem,
    num::NonZero,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use async_task::{Runnable, ScheduleInfo, Task, WithInfo};
use bytes::Bytes;
use nix::sys::resource::{UsageWho, getrusage};

use crate::{
    server::{
        completion::{CompletionQueue, Notifier},
        invoke::{AdmittedCall, SyncFn},
    },
    util::{
        fair_queue::{FairQueue, Position},
        worker_waits::WorkerWaits,
    },
};

/// The interval of the checks whether threads are to be added.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// The part of the CPU time that there is, in percent: if the process uses less, its workers are
/// taken to block. Other processes may need the rest, so that this is a small part.
const BLOCKS_BELOW: u32 = 25;
/// The same, once jobs have waited for [`LONG`].
const BLOCKS_BELOW_FOR_LONG: u32 = 75;
const LONG: Duration = Duration::from_secs(1);
/// The time for which an added thread waits for a job before it ends.
const IDLE_TIME: Duration = Duration::from_secs(10);

/// The number of threads of a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolSize {
    /// The number of threads that are always there.
    pub(crate) threads: usize,
    /// The number up to which threads are added while all threads block.
    pub(crate) max_threads: usize,
}

/// A pool of threads that run jobs. They serve the keys or peers round-robin, see [`FairQueue`].
///
/// Functions that compute need one thread for each core. Functions that block need more. The pool
/// cannot tell them apart in advance. So it adds threads when jobs wait, no thread is idle, and
/// either none of the jobs was taken for [`CHECK_INTERVAL`], or the process uses little CPU time.
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
    queue: FairQueue<Bytes, Job>,
    /// The number of threads that wait for a job.
    idle: usize,
    threads: usize,
    /// The number of turns in the queue that follow others. They do not count against its limit.
    turns: usize,
    /// True if an event loop was asked to check whether threads are to be added.
    watched: bool,
    /// The number of jobs that were taken so far.
    taken: u64,
    /// The last check. `None` if no job waited, or a thread was idle.
    last: Option<Check>,
    closed: bool,
}

/// A check that has found jobs waiting, and no idle thread.
#[derive(Debug, Clone, Copy)]
struct Check {
    at: Instant,
    /// The time of the first such check in a row.
    since: Instant,
    taken: u64,
    /// The CPU time that the process had used. `None` if the operating system does not tell.
    cpu: Option<Duration>,
}

impl Check {
    /// Returns true if `threads` threads have blocked since the check before.
    fn blocks(&self, before: &Self, threads: usize) -> bool {
        if self.taken == before.taken {
            return true;
        }
        let (Some(now), Some(then)) = (self.cpu, before.cpu) else { return false };
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let usable = u32::try_from(threads.min(cores)).unwrap_or(u32::MAX);
        let there_is = (self.at - before.at).saturating_mul(usable);
        let is_long = self.at - self.since >= LONG;
        let percent = if is_long { BLOCKS_BELOW_FOR_LONG } else { BLOCKS_BELOW };
        now.saturating_sub(then) < there_is * percent / 100
    }
}

/// Returns the CPU time that this process has used.
fn cpu_time() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let times = [usage.user_time(), usage.system_time()];
    let micros: i64 = times.iter().map(|time| time.tv_sec() * 1_000_000 + time.tv_usec()).sum();
    u64::try_from(micros).ok().map(Duration::from_micros)
}

/// Work for a thread.
#[derive(Debug)]
pub(crate) enum Job {
    /// A call of a sync function.
    Call { function: SyncFn, call: AdmittedCall, queue: CompletionQueue },
    /// The first turn of a function that returns a stream. It ends when the function waits for the
    /// caller, who has to take items, and not later than after some items.
    Turn(Runnable),
    /// Another turn of such a function.
    NextTurn(Runnable),
}

/// The identifier of a job that waits.
pub(crate) type JobId = Position<Bytes>;

impl Workers {
    /// Starts the threads that are always there. At most `max_waiting` jobs may wait for them, and
    /// one more for each idle thread.
    pub(crate) fn start(size: PoolSize, max_waiting: usize) -> io::Result<Self> {
        let state = State {
            queue: FairQueue::new(max_waiting, |holder| Bytes::copy_from_slice(holder)),
            idle: 0,
            threads: 0,
            turns: 0,
            watched: false,
            taken: 0,
            last: None,
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

    /// Adds threads if jobs wait and all threads block. Returns the time of the next check if jobs
    /// still wait for a thread.
    pub(crate) fn relieve(&self, now: Instant) -> Option<Instant> {
        self.relieve_with(now, cpu_time)
    }

    fn relieve_with(
        &self,
        now: Instant,
        cpu_time: impl FnOnce() -> Option<Duration>,
    ) -> Option<Instant> {
        let wanted = {
            let mut state = self.0.lock();
            // The event loop that checks now may end while turns wait. So the next turn that has to
            // wait asks again.
            state.watched = false;
            if state.queue.len() == 0 {
                state.last = None;
                return None;
            }
            match state.last {
                // Event loops check independently, so that the last check may be very recent.
                Some(last) if now < last.at + CHECK_INTERVAL => {
                    return Some(last.at + CHECK_INTERVAL);
                }
                // An idle thread has been notified, and takes a job soon.
                _ if state.idle > 0 => {
                    state.last = None;
                    0
                }
                last => {
                    let since = last.map_or(now, |last| last.since);
                    let check = Check { at: now, since, taken: state.taken, cpu: cpu_time() };
                    state.last = Some(check);
                    let free = self.0.size.max_threads.saturating_sub(state.threads);
                    let more = state.threads.max(1).min(state.queue.len()).min(free);
                    let blocks = last.is_some_and(|last| check.blocks(&last, state.threads.max(1)));
                    if blocks { more } else { 0 }
                }
            }
        };
        for _ in 0..wanted {
            if let Err(error) = self.add_thread(true) {
                tracing::warn!(%error, "all workers block, and another one cannot be started");
                break;
            }
        }
        Some(now + CHECK_INTERVAL)
    }

    /// Queues a job. Returns `None` if the queue is full or the peer has too many jobs in it.
    ///
    /// Idle workers are not notified until [`wake`](Self::wake) is called, because waking a thread
    /// takes longer than many functions.
    pub(crate) fn submit(&self, holder: Bytes, job: Job) -> Option<JobId> {
        let mut state = self.0.lock();
        let extra = state.idle + state.turns;
        let pushed = state.queue.push(holder, job, extra);
        // A job that is refused must not be dropped under the lock.
        drop(state);
        pushed.ok()
    }

    /// Runs a future on the threads, in turns. Returns its first turn, and its task. `None` if the
    /// queue is full or the peer has too many jobs in it. The future is dropped after its task is,
    /// on a thread of the pool.
    ///
    /// A future that is woken is queued again whatever there is in the queue: admission has bounded
    /// the number of calls. `watch` is called if an event loop is to check, by
    /// [`relieve`](Self::relieve), whether threads are to be added for it.
    pub(crate) fn spawn(
        &self,
        holder: Bytes,
        future: impl Future<Output = ()> + Send + 'static,
        watch: impl Fn() + Send + Sync + 'static,
    ) -> Option<(JobId, Task<()>)> {
        let (shared, again) = (Arc::clone(&self.0), holder.clone());
        let schedule = move |turn, info: ScheduleInfo| {
            if shared.queue_turn(&again, turn, info.woken_while_running) {
                watch();
            }
        };
        let (first, task) = async_task::spawn(future, WithInfo(schedule));
        self.submit(holder, Job::Turn(first)).map(|job| (job, task))
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

    /// Queues the next turn of a future that was woken. Returns true if it may have to wait, and no
    /// event loop was asked to check that. If the future `goes_on`, its own thread asks for the next
    /// job now, and another one is woken only if there are more.
    fn queue_turn(&self, holder: &Bytes, turn: Runnable, goes_on: bool) -> bool {
        let mut state = self.lock();
        // No thread is left. The future is dropped with its turn, and not under the lock.
        if state.closed && state.threads == 0 {
            drop(state);
            drop(turn);
            return false;
        }
        let pushed = state.queue.push(holder.clone(), Job::NextTurn(turn), usize::MAX);
        state.turns += 1;
        let free = state.idle + usize::from(goes_on);
        let waits = free < state.queue.len();
        let watch = waits && !mem::replace(&mut state.watched, true);
        let wakes = !goes_on || state.queue.len() > 1;
        drop(state);
        debug_assert!(pushed.is_ok(), "it may exceed the limit");
        if wakes {
            self.not_empty.notify_one();
        }
        watch
    }
}

/// Runs jobs on a worker thread until the pool is closed and the queue is empty. An `added` thread
/// ends earlier, when it has been idle for a while.
fn work(shared: &Shared, added: bool) {
    let mut notifier = Notifier::default();
    let mut state = shared.lock();
    loop {
        if let Some(job) = state.queue.pop() {
            state.taken += 1;
            state.turns -= usize::from(matches!(job, Job::NextTurn(_)));
            drop(state);
            match job {
                Job::Call { function, call, queue } => {
                    let completion = call.run(function);
                    notifier.send(&queue, completion);
                }
                Job::Turn(turn) | Job::NextTurn(turn) => {
                    turn.run();
                }
            }
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
