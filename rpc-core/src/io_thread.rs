//! The thread that owns sockets: a current-thread runtime of its own, so that neither a busy
//! runtime nor a blocking function can starve the I/O, and a socket, its engine's tasks and our
//! loops share one thread.

use std::{
    future::{Future, poll_fn},
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    task,
};

/// How long a stopping thread waits for its tasks, above all for what they still have to send.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// A running I/O thread. Dropping it ends the thread once its tasks have ended, or [`LINGER`] has
/// passed.
#[derive(Debug)]
pub(crate) struct IoThread {
    handle: Handle,
    /// Dropped to stop the thread.
    _stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl IoThread {
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(async {
                // Either way the sender is gone.
                let _ = stopped.await;
                wait_for_tasks(runtime.handle()).await;
            });
            runtime.shutdown_background();
            // Nobody may be waiting any more.
            let _ = end.send(());
        })?;
        Ok(Self { handle, _stop: stop, ended })
    }

    /// The thread that all clients of this process share. It ends when the last of them has gone.
    pub(crate) fn shared() -> io::Result<Arc<Self>> {
        static SHARED: Mutex<Weak<IoThread>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Ok(running);
        }
        let started = Arc::new(Self::start("rpc-client-io")?);
        *shared = Arc::downgrade(&started);
        Ok(started)
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `work` on the thread.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.handle
            .spawn(work)
            .await
            .expect("the thread's runtime lives and this work does not panic")
    }

    /// Stops the thread and waits until what its tasks still had to send is sent, or [`LINGER`] has
    /// passed.
    pub(crate) async fn finish(self) {
        let Self { _stop: stop, ended, .. } = self;
        drop(stop);
        // The thread ends by itself; that it did not say so would only mean that it has.
        let _ = ended.await;
    }
}

/// What a task of this thread has done since others last had a turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    messages: usize,
    bytes: usize,
}

impl Turn {
    /// How many messages a task takes or sends in a turn, about; what came in one body is handled
    /// to its end.
    const MESSAGES: usize = 256;
    /// How many bytes. What follows then finds the memory of what went before free, and in the
    /// processor's cache: with messages of 1 MiB that is twice as fast as to take whatever there
    /// is.
    const BYTES: usize = 64 * 1024;

    pub(crate) fn add(&mut self, messages: usize, bytes: usize) {
        self.messages += messages;
        self.bytes += bytes;
    }

    /// Whether others have to have theirs.
    pub(crate) fn is_over(&self) -> bool {
        self.messages >= Self::MESSAGES || self.bytes >= Self::BYTES
    }

    /// Lets every task of this runtime run that is ready, before the one that awaits it goes on.
    /// What the system has ready meanwhile is looked for after much was moved, and not otherwise,
    /// because it is a system call.
    pub(crate) async fn give_way(&mut self) {
        let Self { bytes, .. } = std::mem::take(self);
        if bytes >= Self::BYTES {
            return task::yield_now().await;
        }
        let mut gave_way = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut gave_way, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

async fn wait_for_tasks(runtime: &Handle) {
    const LOOK_AGAIN: Duration = Duration::from_millis(2);
    let give_up = Instant::now() + LINGER;
    // The engine's writer tasks cannot be joined, only counted.
    while runtime.metrics().num_alive_tasks() > 0 && Instant::now() < give_up {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_is_over_after_so_many_messages_or_bytes() {
        let mut turn = Turn::default();
        for _ in 0..Turn::MESSAGES {
            assert!(!turn.is_over());
            turn.add(1, 1);
        }
        assert!(turn.is_over());
        turn.give_way().await;
        assert!(!turn.is_over());
        turn.add(1, Turn::BYTES);
        assert!(turn.is_over());
    }

    #[tokio::test]
    async fn who_gives_way_lets_others_run() {
        let other = tokio::spawn(async {});
        Turn::default().give_way().await;
        assert!(other.is_finished());
    }
}
