//! Tests of the worker pool with functions that block, and with a clock that the test sets.

#![allow(clippy::unnecessary_wraps)] // All handlers have the same signature.

use std::collections::VecDeque;

use bytes::Bytes;

use super::*;
use crate::{
    handler::{HandlerResult, Invocation},
    server::{
        completion::Completion,
        invoke::tests::{admitted_call, nothing},
    },
};

fn job(ticket: u32, queue: &CompletionQueue) -> Job {
    Job::Call { function: nothing, call: admitted_call("", ticket), queue: queue.clone() }
}

fn fixed(threads: usize) -> PoolSize {
    PoolSize { threads, max_threads: threads }
}

/// Waits for completions, and returns their tickets.
fn tickets(queue: &CompletionQueue) -> Vec<u32> {
    let mut completions = VecDeque::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(queue.recv(&mut completions));
    let ticket = |completion| match completion {
        Completion::Ended { ticket, .. } => ticket.0,
        _ => panic!("{completion:?}"),
    };
    completions.into_iter().map(ticket).collect()
}

#[test]
fn idle_workers_extend_the_queue_limit() {
    let queue = CompletionQueue::default();
    let workers = Workers::start(fixed(1), 0).unwrap();
    // The job is refused until the worker has started and is idle.
    while workers.submit(Bytes::new(), job(1, &queue)).is_none() {
        thread::yield_now();
    }
    workers.wake();
    assert_eq!(tickets(&queue), [1]);
}

#[test]
fn threads_are_added_while_all_of_them_block() {
    static GATE: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());
    /// Blocks until eight calls are here.
    fn meets(_: &Invocation) -> HandlerResult {
        let (entered, changed) = &GATE;
        let mut entered = entered.lock().unwrap();
        *entered += 1;
        changed.notify_all();
        drop(changed.wait_while(entered, |entered| *entered < 8).unwrap());
        Ok(Bytes::new())
    }
    let queue = CompletionQueue::default();
    let workers = Workers::start(PoolSize { threads: 1, max_threads: 8 }, 100).unwrap();
    for ticket in 0..8 {
        let Job::Call { call, queue, .. } = job(ticket, &queue) else { panic!("it is a call") };
        workers.submit(Bytes::new(), Job::Call { function: meets, call, queue }).unwrap();
    }
    workers.wake();
    let (begin, mut now) = (Instant::now(), Instant::now());
    let mut ended = Vec::new();
    while ended.len() < 8 {
        assert!(begin.elapsed() < Duration::from_secs(60), "the threads block for ever");
        // The clock of the test. Each check finds that no job was taken.
        now += CHECK_INTERVAL;
        workers.relieve(now);
        let mut completions = VecDeque::new();
        queue.try_recv(&mut completions);
        ended.extend(completions);
        thread::yield_now();
    }
    assert!(workers.0.lock().threads <= 8);
    assert_eq!(workers.relieve(now), None, "no job waits");
}

#[test]
fn threads_are_added_while_the_process_uses_little_cpu_time() {
    let queue = CompletionQueue::default();
    let cores = u32::try_from(thread::available_parallelism().unwrap().get()).unwrap();
    // The part of the CPU time that the process uses, in percent, and the interval after which
    // threads were added.
    for (percent, expected) in [(0, Some(2)), (20, Some(2)), (50, Some(101)), (100, None)] {
        let size = PoolSize { threads: 0, max_threads: 100 };
        let workers = Workers::start(size, 100).unwrap();
        workers.submit(Bytes::new(), job(1, &queue)).unwrap();
        workers.submit(Bytes::new(), job(2, &queue)).unwrap();
        // As if all cores had a thread, and each thread took jobs.
        workers.0.lock().threads = cores as usize;
        let now = Instant::now();
        let grown = (1..200).find(|n| {
            let cpu = CHECK_INTERVAL * *n * cores * percent / 100;
            workers.0.lock().taken += 1;
            workers.relieve_with(now + *n * CHECK_INTERVAL, || Some(cpu));
            workers.0.lock().threads > cores as usize
        });
        assert_eq!(grown, expected, "{percent}");
    }
}

#[test]
fn threads_are_not_added_while_jobs_are_taken() {
    let workers = Workers::start(PoolSize { threads: 0, max_threads: 8 }, 100).unwrap();
    let (queue, now) = (CompletionQueue::default(), Instant::now());
    assert_eq!(workers.relieve_with(now, || None), None);
    workers.submit(Bytes::new(), job(1, &queue)).unwrap();
    workers.submit(Bytes::new(), job(2, &queue)).unwrap();
    for n in 1..5 {
        assert!(workers.relieve_with(now + n * CHECK_INTERVAL, || None).is_some());
        workers.0.lock().taken += 1;
    }
    assert_eq!(workers.0.lock().threads, 0);
    // Two checks within a short time are no proof.
    workers.relieve_with(now + 5 * CHECK_INTERVAL, || None);
    workers.relieve_with(now + 5 * CHECK_INTERVAL, || None);
    assert_eq!(workers.0.lock().threads, 0);
    workers.relieve_with(now + 6 * CHECK_INTERVAL, || None);
    assert!(!tickets(&queue).is_empty());
}

#[test]
fn dropped_workers_run_all_queued_jobs() {
    let queue = CompletionQueue::default();
    let workers = Workers::start(fixed(2), 100).unwrap();
    for ticket in 0..50 {
        workers.submit(Bytes::new(), job(ticket, &queue)).unwrap();
    }
    drop(workers);
    let mut all = Vec::new();
    while all.len() < 50 {
        all.extend(tickets(&queue));
    }
    all.sort_unstable();
    assert_eq!(all, (0..50).collect::<Vec<_>>());
}
