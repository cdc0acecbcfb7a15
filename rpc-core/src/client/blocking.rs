//! Waiting for a future by blocking the thread, for programs without an async runtime.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Instant,
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Calls `poll` until it gives a result, and parks the thread in between: until it is woken, or until the
/// moment that `poll` names.
pub(crate) fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Result<T, Option<Instant>>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match poll(&mut cx) {
            Ok(result) => return result,
            Err(None) => thread::park(),
            Err(Some(until)) => thread::park_timeout(until.saturating_duration_since(Instant::now())),
        }
    }
}

/// Blocks until `future` is ready. It must end by itself: there is no deadline here.
pub(crate) fn wait_for<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    wait(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(None),
    })
}
