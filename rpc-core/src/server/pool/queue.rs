//! In which order jobs are taken: the peers in turn, and each one's first in, first out. So who
//! sends much waits for itself and not others for it. No I/O, no threads.

use std::collections::VecDeque;

use bytes::Bytes;
use foldhash::HashMap;

use crate::{
    server::{pool::JobId, run::Job},
    shares::{kept_of, may_have},
};

/// How many places of jobs that were taken back may stay in a line, beside as many as wait in it.
const GAPS: usize = 8;
/// How many lines in which nobody waits may stay, beside as many as jobs wait.
const EMPTY_LINES: usize = 64;

/// Jobs that wait for a worker.
#[derive(Debug)]
pub(super) struct Queue {
    lines: HashMap<Bytes, Line>,
    /// Whose line is next. Each peer that has a line is here once.
    turns: VecDeque<Bytes>,
    /// How many jobs wait, in all lines. A peer may have as many as there is still room for, beside
    /// `limit` and the `idle` workers.
    waiting: usize,
    limit: usize,
    pub(super) idle: usize,
    next: u64,
    pub(super) closed: bool,
    /// The line that was emptied last, for the next peer: so that one job after the other allocates
    /// nothing.
    spare: VecDeque<(u64, Option<Job>)>,
}

/// The jobs of a peer.
#[derive(Debug, Default)]
struct Line {
    /// In order of their numbers. `None` stands for a job that was taken back.
    jobs: VecDeque<(u64, Option<Job>)>,
    /// How many are still to run.
    waiting: usize,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            lines: HashMap::default(),
            turns: VecDeque::new(),
            waiting: 0,
            limit,
            idle: 0,
            next: 0,
            closed: false,
            spare: VecDeque::new(),
        }
    }

    /// The job comes back if there is no room for it.
    pub(super) fn push(&mut self, job: Job) -> Result<JobId, Job> {
        let peer = job.peer();
        let held = self.lines.get(peer).map_or(0, |line| line.waiting);
        let free = (self.limit + self.idle).saturating_sub(self.waiting);
        if !may_have(held, 1, free, kept_of(self.limit)) {
            return Err(job);
        }
        let id = JobId { peer: peer.clone(), number: self.next };
        let line = self.lines.entry(peer.clone()).or_insert_with(|| {
            self.turns.push_back(id.peer.clone());
            Line { jobs: std::mem::take(&mut self.spare), waiting: 0 }
        });
        line.jobs.push_back((id.number, Some(job)));
        line.waiting += 1;
        self.next += 1;
        self.waiting += 1;
        Ok(id)
    }

    /// The first job of the peer whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Job> {
        loop {
            let peer = self.turns.pop_front()?;
            let line = self.lines.get_mut(&peer)?;
            let job = std::iter::from_fn(|| line.jobs.pop_front()).find_map(|(_, job)| job);
            line.waiting -= usize::from(job.is_some());
            if line.waiting > 0 {
                self.turns.push_back(peer);
            } else if let Some(line) = self.lines.remove(&peer) {
                self.spare = line.jobs;
                self.spare.clear();
            }
            if job.is_some() {
                self.waiting -= 1;
                return job;
            }
        }
    }

    /// How many of the idle workers there are jobs for.
    pub(super) fn wanted(&self) -> usize {
        self.waiting.min(self.idle)
    }

    /// Takes back a job that waits. `None` if it does not.
    pub(super) fn withdraw(&mut self, id: &JobId) -> Option<Job> {
        let line = self.lines.get_mut(&id.peer)?;
        let index = line.jobs.binary_search_by_key(&id.number, |(number, _)| *number).ok()?;
        let job = line.jobs[index].1.take()?;
        line.waiting -= 1;
        self.waiting -= 1;
        // Workers that are all busy take nothing out, so what is empty is removed here when it is
        // the greater part.
        if line.jobs.len() > 2 * line.waiting + GAPS {
            line.jobs.retain(|(_, job)| job.is_some());
        }
        if self.lines.len() > 2 * self.waiting + EMPTY_LINES {
            self.lines.retain(|_, line| line.waiting > 0);
            self.turns.retain(|peer| self.lines.contains_key(peer));
        }
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{
        outbox::Outbox,
        run::tests::{job, job_of},
    };

    /// The tickets of what waits, in the order in which it is taken.
    fn drain(queue: &mut Queue) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).map(|job| job.ticket().0).collect()
    }

    #[test]
    fn jobs_of_a_peer_wait_in_order_up_to_the_limit() {
        let (done, mut queue) = (Outbox::default(), Queue::new(2));
        queue.push(job(1, &done)).unwrap();
        queue.push(job(2, &done)).unwrap();
        assert!(queue.push(job(3, &done)).is_err());
        assert_eq!(queue.pop().unwrap().ticket().0, 1);
        queue.push(job(3, &done)).unwrap();
        assert_eq!(drain(&mut queue), [2, 3]);
        assert!(queue.pop().is_none());
    }

    #[test]
    fn peers_take_turns() {
        let (done, mut queue) = (Outbox::default(), Queue::new(100));
        for (peer, ticket) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("a", 5), ("c", 6), ("b", 7)]
        {
            queue.push(job_of(peer, ticket, &done)).unwrap();
        }
        assert_eq!(drain(&mut queue), [1, 4, 6, 2, 7, 3, 5]);
        assert!(queue.lines.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn a_peer_that_fills_the_queue_leaves_room_for_others() {
        let (done, mut queue) = (Outbox::default(), Queue::new(10));
        let greedy =
            (0..10).take_while(|ticket| queue.push(job_of("a", *ticket, &done)).is_ok()).count();
        assert_eq!(greedy, 9, "all but what is kept back");
        let ticket = 100;
        queue.push(job_of("b", ticket, &done)).unwrap();
        assert_eq!(queue.pop().unwrap().ticket().0, 0);
        assert_eq!(queue.pop().unwrap().ticket().0, ticket, "it is the next one's turn");
    }

    #[test]
    fn what_was_taken_back_never_runs_and_makes_room() {
        let (done, mut queue) = (Outbox::default(), Queue::new(2));
        let first = queue.push(job(1, &done)).unwrap();
        let second = queue.push(job(2, &done)).unwrap();
        assert_eq!(queue.withdraw(&first).unwrap().ticket().0, 1);
        assert!(queue.withdraw(&first).is_none());
        queue.push(job(3, &done)).unwrap();
        assert_eq!(drain(&mut queue), [2, 3]);
        assert!(queue.withdraw(&second).is_none());
    }

    #[test]
    fn a_peer_whose_jobs_were_all_taken_back_has_one_turn_when_it_comes_again() {
        let (done, mut queue) = (Outbox::default(), Queue::new(100));
        for ticket in 0..10 {
            let id = queue.push(job_of("a", ticket, &done)).unwrap();
            queue.withdraw(&id).unwrap();
        }
        for (peer, ticket) in [("a", 1), ("b", 2), ("a", 3), ("b", 4)] {
            queue.push(job_of(peer, ticket, &done)).unwrap();
        }
        assert_eq!(drain(&mut queue), [1, 2, 3, 4]);
    }

    #[test]
    fn taking_back_leaves_nothing_behind() {
        let (done, mut queue) = (Outbox::default(), Queue::new(10));
        queue.push(job(0, &done)).unwrap();
        for ticket in 1..10_000 {
            let id = queue.push(job(ticket, &done)).unwrap();
            queue.withdraw(&id).unwrap();
        }
        assert!(queue.lines[&Bytes::new()].jobs.len() <= GAPS + 3);
        for ticket in 1..10_000 {
            let peer: &'static str = ["a", "b", "c", "d"][ticket as usize % 4];
            let id = queue.push(job_of(peer, ticket, &done)).unwrap();
            queue.withdraw(&id).unwrap();
        }
        assert!(queue.lines.len() == queue.turns.len() && queue.lines.len() <= 5);
        assert_eq!(drain(&mut queue), [0]);
        assert!(queue.lines.is_empty());
    }

    #[test]
    fn many_peers_that_vanish_leave_no_lines() {
        let (done, mut queue) = (Outbox::default(), Queue::new(10));
        for n in 0..10_000_u32 {
            let peer: &'static str = Box::leak(n.to_string().into_boxed_str());
            let id = queue.push(job_of(peer, n, &done)).unwrap();
            queue.withdraw(&id).unwrap();
        }
        assert!(queue.lines.len() <= EMPTY_LINES, "{}", queue.lines.len());
        assert_eq!(queue.lines.len(), queue.turns.len());
    }
}
