//! The future of a client that connects.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::{
    client::{Client, blocking},
    error::{ErrorKind, Ran, RpcError},
};

/// The future that [`Client::connect`] returns. Await it, or block with [`wait`](Self::wait).
///
/// Connecting begins when the future is created, not when it is first polled.
///
/// # Cancellation
/// Dropping the future ends the connections.
#[must_use = "await it, or call `.wait()`, to get the client"]
pub struct Connect {
    connecting: Pin<Box<dyn Future<Output = Result<Client, RpcError>> + Send>>,
    by: Instant,
}

impl Connect {
    pub(super) fn new(
        connecting: impl Future<Output = Result<Client, RpcError>> + Send + 'static,
        by: Instant,
    ) -> Self {
        Self { connecting: Box::pin(connecting), by }
    }

    /// Blocks the current thread until a server has answered, for programs without an async
    /// runtime.
    ///
    /// # Errors
    /// The errors of [`ClientBuilder::connect`](crate::ClientBuilder::connect).
    pub fn wait(self) -> Result<Client, RpcError> {
        /// The delay after which the client's own task counts as stopped. That task keeps the time.
        const GRACE: Duration = Duration::from_millis(500);
        blocking::check_thread()?;
        blocking::wait_until(self.by + GRACE, self.connecting).unwrap_or_else(|| {
            let message = "the connection's runtime does not run: `.await` instead of `.wait()`";
            Err(RpcError::new(ErrorKind::Disconnected, Ran::No, message))
        })
    }
}

impl Future for Connect {
    type Output = Result<Client, RpcError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.connecting.as_mut().poll(cx)
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect").finish_non_exhaustive()
    }
}
