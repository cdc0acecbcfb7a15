//! The items of a caller on their way from the event loop to the function that takes them.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use crate::{
    error::{ErrorKind, Ran, RpcError},
    inflow::Inflow,
    protocol::stream::{Chunk, items},
    util::{deadline::deadline_after, wakers::Wakers},
};

/// Gives credit for more items to the caller.
pub(crate) type GiveCredit = Box<dyn Fn(u64) + Send + Sync>;

/// The items of a caller that have arrived, and that the function has not taken.
pub(crate) struct Arrivals {
    state: Mutex<State>,
    /// The longest silence of the caller while it has credit.
    idle: Duration,
    give: GiveCredit,
}

struct State {
    inflow: Inflow,
    stage: Stage,
    /// The task of the function, or its thread, which waits for the next item.
    waker: Option<Waker>,
    /// The time by which the next item must come. `None` until the function has begun.
    deadline: Option<Instant>,
}

enum Stage {
    Open,
    /// There are no more items. The error is told once.
    Ended(Option<RpcError>),
    /// The function takes no more items.
    Closed,
}

/// A message about items that no caller may send: without credit, or after the last item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unexpected;

impl Arrivals {
    /// Makes the arrivals of a call. `window` is the number of bytes of items that may be on their
    /// way or wait here.
    pub(crate) fn new(window: usize, idle: Duration, give: GiveCredit) -> Arc<Self> {
        let inflow = Inflow::new(window);
        let state = State { inflow, stage: Stage::Open, waker: None, deadline: None };
        Arc::new(Self { state: Mutex::new(state), idle, give })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock can be ignored, because nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the first credit, because the function begins.
    pub(crate) fn begin(&self, now: Instant) {
        let mut state = self.lock();
        state.deadline = Some(deadline_after(now, self.idle));
        let credit = state.inflow.begin();
        drop(state);
        (self.give)(credit);
    }

    /// Adds items.
    ///
    /// # Errors
    /// Returns `Err` if they are unexpected.
    pub(crate) fn push(&self, chunk: Chunk, now: Instant) -> Result<(), Unexpected> {
        let mut state = self.lock();
        match state.stage {
            Stage::Open => {}
            Stage::Ended(None) => return Err(Unexpected),
            // It was on its way.
            Stage::Ended(Some(_)) | Stage::Closed => return Ok(()),
        }
        state.deadline = Some(deadline_after(now, self.idle));
        if !state.inflow.push(chunk) {
            return Err(Unexpected);
        }
        wake(state);
        Ok(())
    }

    /// Notes that the last item has come.
    ///
    /// # Errors
    /// Returns `Err` if this is unexpected.
    pub(crate) fn complete(&self) -> Result<(), Unexpected> {
        let mut state = self.lock();
        match state.stage {
            // Its caller has not been given the first credit.
            Stage::Open if state.deadline.is_none() => return Err(Unexpected),
            Stage::Open => {}
            Stage::Ended(None) => return Err(Unexpected),
            Stage::Ended(Some(_)) | Stage::Closed => return Ok(()),
        }
        state.stage = Stage::Ended(None);
        wake(state);
        Ok(())
    }

    /// Returns true if the function takes no more items.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.lock().stage, Stage::Closed)
    }

    /// Ends the items with an error, because the call has ended.
    pub(crate) fn fail(&self, error: RpcError) {
        let mut state = self.lock();
        if !matches!(state.stage, Stage::Open) {
            return;
        }
        state.inflow.clear();
        state.stage = Stage::Ended(Some(error));
        wake(state);
    }

    /// Returns the time at which [`check`](Self::check) must be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.lock().deadline
    }

    /// Ends the items if the caller has been silent for too long. Otherwise, returns the time at
    /// which this must be called next.
    pub(crate) fn check(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        let deadline = state.deadline.filter(|_| matches!(state.stage, Stage::Open))?;
        if deadline > now {
            return Some(deadline);
        }
        // The function does something else, and waits for nothing.
        if state.waker.is_none() {
            state.deadline = Some(deadline_after(now, self.idle));
            return state.deadline;
        }
        let received = items(state.inflow.received());
        let message = format!("the caller has sent nothing for {:?}, after {received}", self.idle);
        let error = RpcError::new(ErrorKind::DeadlineExceeded, Ran::Yes, message);
        state.stage = Stage::Ended(Some(error));
        wake(state);
        None
    }

    pub(crate) fn poll_chunk(&self, cx: &Context<'_>) -> Poll<Option<Result<Chunk, RpcError>>> {
        let mut old = None;
        let mut state = self.lock();
        let chunk = state.inflow.next();
        let is_open = matches!(state.stage, Stage::Open);
        // The whole window was admitted with the call.
        let credit = state.inflow.grant(usize::MAX).filter(|_| is_open);
        let next = match (chunk, &mut state.stage) {
            (Some(chunk), _) => Poll::Ready(Some(Ok(chunk))),
            (None, Stage::Ended(error)) => Poll::Ready(error.take().map(Err)),
            (None, Stage::Open | Stage::Closed) => {
                if state.waker.is_none() {
                    state.deadline = Some(deadline_after(Instant::now(), self.idle));
                }
                old = state.waker.replace(cx.waker().clone());
                Poll::Pending
            }
        };
        drop(state);
        // Dropped without the lock, because it may run foreign code.
        drop(old);
        if let Some(granted) = credit {
            (self.give)(granted.bytes);
        }
        next
    }

    /// Drops the items that wait, and those that will come.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.stage = Stage::Closed;
        state.inflow.clear();
    }
}

/// Wakes the function, once the lock is released.
fn wake(mut state: MutexGuard<'_, State>) {
    let mut wakers = Wakers::default();
    wakers.extend(state.waker.take());
    drop(state);
    wakers.wake();
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Arrivals")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::{MsgId, stream::ItemsHead};

    const IDLE: Duration = Duration::from_secs(30);

    fn chunk() -> Chunk {
        let head = ItemsHead { id: MsgId(1), values_at: 0, count: 1 };
        Chunk::new(Bytes::from_static(b"\x01"), head)
    }

    fn poll(arrivals: &Arrivals) -> Poll<Option<Result<Chunk, RpcError>>> {
        arrivals.poll_chunk(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn items_that_come_too_late_are_not_unexpected() {
        let (arrivals, now) = (Arrivals::new(100, IDLE, Box::new(drop)), Instant::now());
        arrivals.begin(now);
        assert!(poll(&arrivals).is_pending());
        assert_eq!(arrivals.check(now + 2 * IDLE), None, "the function waits");
        assert_eq!(arrivals.push(chunk(), now + 2 * IDLE), Ok(()));
        assert_eq!(arrivals.complete(), Ok(()));
        let Poll::Ready(Some(Err(error))) = poll(&arrivals) else { panic!("the time was up") };
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        assert!(matches!(poll(&arrivals), Poll::Ready(None)));
    }

    #[test]
    fn function_that_does_not_wait_is_no_silence_of_its_caller() {
        let (arrivals, now) = (Arrivals::new(100, IDLE, Box::new(drop)), Instant::now());
        arrivals.begin(now);
        let later = now + 2 * IDLE;
        assert_eq!(arrivals.check(later), Some(later + IDLE));
        assert!(poll(&arrivals).is_pending());
        let by = arrivals.deadline().unwrap();
        assert!(by <= Instant::now() + IDLE, "it waits from now on");
        assert_eq!(arrivals.check(by), None);
    }
}
