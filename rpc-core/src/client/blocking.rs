//! Functions that block the current thread until a future is ready, for programs without an async
//! runtime.

use std::{
    collections::BTreeSet,
    future::Future,
    pin::pin,
    sync::{Mutex, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use crate::{
    client::core::ClientCore,
    context::Context as CallContext,
    error::{ErrorKind, Ran, RpcError},
    util::{io_thread::is_io_thread, park::park_until_ready, worker_waits::Waiting},
};

/// Refuses to wait on an I/O thread, which would stop all clients or the whole server. Foreign code
/// runs there in inline functions, and in a subscriber of `tracing`.
///
/// # Errors
/// Returns [`ErrorKind::WrongThread`] on an I/O thread.
pub(crate) fn check_thread() -> Result<(), RpcError> {
    if !is_io_thread() {
        return Ok(());
    }
    let text = "`.wait()` was called on an I/O thread of this library, which would stop it: start a \
                thread or a task for it, or make the function async";
    Err(RpcError::new(ErrorKind::WrongThread, Ran::No, text))
}

/// Tells once of each function that waits on a worker.
fn tell_of_worker() {
    static TOLD: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let Some(function) = CallContext::current().map(|context| context.function()) else { return };
    if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(function) {
        tracing::info!(
            function,
            "a sync function waits for a call: its worker runs nothing else meanwhile, and the pool \
             grows if all workers wait; an async function needs no worker"
        );
    }
}

/// Blocks until `future` is ready, which becomes ready when a call of `core` ends.
///
/// Normally, the client's own task ends calls at their deadlines. That task does not run if this
/// thread blocks its runtime. This function then ends the calls instead, a little later.
pub(crate) fn wait<F: Future>(core: &ClientCore, future: F) -> F::Output {
    const GRACE: Duration = Duration::from_millis(100);
    let waiting = Waiting::begin();
    if waiting.is_some() {
        tell_of_worker();
    }
    park_until_ready(future, || {
        let overdue = Instant::now().checked_sub(GRACE);
        core.handle_timeout(overdue).map(|next| next + 2 * GRACE)
    })
}

/// Blocks until `future` is ready. Returns `None` if it is not ready at the time `by`.
pub(crate) fn wait_until<F: Future>(by: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let in_time = std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if by <= Instant::now() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    park_until_ready(in_time, || Some(by))
}
