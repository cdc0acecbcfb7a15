//! Threads that wait for a future.

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

/// Blocks until `future` is ready, and polls it whenever it is woken, and at the times that
/// `look_again` returns.
pub(crate) fn park_until_ready<F: Future>(
    future: F,
    look_again: impl Fn() -> Option<Instant>,
) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        match look_again() {
            None => thread::park(),
            Some(moment) => thread::park_timeout(moment.saturating_duration_since(Instant::now())),
        }
    }
}
