//! A thread that owns sockets, and runs a current-thread tokio runtime of its own.
//!
//! Because of it, neither a busy runtime nor a blocking function can starve the I/O. A socket, the
//! tasks of its engine and the event loops of this crate share the thread.

use std::{
    cell::Cell,
    future::Future,
    io, thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use crate::util::home_process::HomeProcess;

/// The longest time that a stopping thread waits for its tasks to send what is still queued.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

thread_local! {
    static IS_IO_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Returns true if this thread is an I/O thread. It must not wait for what it has to do itself.
pub(crate) fn is_io_thread() -> bool {
    IS_IO_THREAD.try_with(Cell::get).unwrap_or(false)
}

/// A running I/O thread. Dropping it ends the thread once its tasks have ended, or after
/// [`LINGER`].
#[derive(Debug)]
pub(crate) struct IoThread {
    home: HomeProcess,
    handle: Handle,
    /// Dropped to stop the thread.
    _stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl IoThread {
    /// Starts a thread with this name.
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            IS_IO_THREAD.set(true);
            #[cfg(feature = "omq")]
            block_sigpipe();
            runtime.block_on(async {
                // The result is always an error: the sender was dropped.
                let _ = stopped.await;
                wait_for_tasks(runtime.handle()).await;
            });
            runtime.shutdown_background();
            // An error means that nobody waits for the end of the thread.
            let _ = end.send(());
        })?;
        Ok(Self { home: HomeProcess::new(), handle, _stop: stop, ended })
    }

    /// Returns false in a fork of the process that has started the thread.
    pub(crate) fn is_here(&self) -> bool {
        !self.home.is_elsewhere()
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `work` on the thread, and returns its result.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.handle.spawn(work).await.expect("the runtime lives, and this work does not panic")
    }

    /// Stops the thread. Waits until its tasks have sent what was still queued, but no longer than
    /// [`LINGER`].
    pub(crate) async fn finish(self) {
        let Self { _stop: stop, ended, .. } = self;
        drop(stop);
        // An error means that the thread has ended without this message, which serves as well.
        let _ = ended.await;
    }
}

/// Lets a write to a peer that has gone fail, and not end the process. The engine `omq` writes with
/// `writev`, which raises SIGPIPE. Rust programs ignore the signal, but the programs of other
/// languages that load this library may not. The thread is ours, so that nothing else is affected.
#[cfg(feature = "omq")]
fn block_sigpipe() {
    use nix::sys::signal::{SigSet, Signal};
    // An error is impossible: the signal exists, and every thread may block it.
    let _ = SigSet::from(Signal::SIGPIPE).thread_block();
}

/// Waits until the tasks of the runtime have ended, but no longer than [`LINGER`].
async fn wait_for_tasks(runtime: &Handle) {
    const POLL_INTERVAL: Duration = Duration::from_millis(2);
    let give_up = Instant::now() + LINGER;
    // The writer tasks of an engine cannot be joined, only counted.
    while runtime.metrics().num_alive_tasks() > 0 && Instant::now() < give_up {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
