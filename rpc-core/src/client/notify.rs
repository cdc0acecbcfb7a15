//! Notifications as futures.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    args::Args,
    client::{Client, blocking, calls::CallKind, raw_call::RawCall},
    error::RpcError,
    function::RemoteFn,
    util::fnv,
};

impl Client {
    /// Returns a notification of the function `F` with `args`, for generic code. Other code uses
    /// the shorter `F::notify(&client, ...)`.
    pub fn notify<F: RemoteFn>(&self, args: Args<F>) -> Notify {
        Notify::new(self.clone(), args)
    }
}

/// A notification, made by `F::notify(&client, ...)`: a call without a response.
///
/// The client learns neither the result of the function nor that the function has run at all.
///
/// A notification is a lazy future that is ready once the socket has accepted the message. The
/// message is then sent in the background. A program that ends soon afterwards must
/// [close](Client::close) the client first.
///
/// # Cancellation
/// A notification that is dropped while it is queued in the client is not sent. Once the client has
/// begun to hand it to the socket, dropping the future has no effect.
///
/// # Errors
/// The future ends with an [`RpcError`], for example if there was no connection before its timeout.
///
/// # Panics
/// Like most futures, a notification panics if it is polled again after it has ended.
#[must_use = "a notification is not sent until it is awaited, or `.wait()` is called"]
pub struct Notify {
    pub(super) raw: RawCall,
}

impl Notify {
    pub(crate) fn new<F: RemoteFn>(client: Client, args: Args<F>) -> Self {
        Self { raw: RawCall::new(client, args, CallKind::Notification) }
    }

    /// Sets the timeout of the notification, from its first poll until the socket has accepted the
    /// message.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.raw.options.timeout = Some(timeout);
        self
    }

    /// Sends the notification to the server that `key` belongs to. See
    /// [`Call::affinity_key`](crate::Call::affinity_key).
    pub fn affinity_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.raw.options.extras().affinity = Some(fnv::hash(key.as_ref()));
        self
    }

    /// Sends the notification and blocks the current thread until the socket has accepted it, for
    /// programs without an async runtime.
    ///
    /// # Errors
    /// The errors of awaiting the [notification](Notify#errors).
    ///
    /// # Panics
    /// Panics if the notification was polled before and has ended.
    pub fn wait(self) -> Result<(), RpcError> {
        let client = self.raw.client.clone();
        let checked = blocking::check_thread().and_then(|()| client.core().check_process());
        checked.map_err(|error| self.raw.complete(error))?;
        blocking::wait(client.core(), self)
    }
}

impl Future for Notify {
    type Output = Result<(), RpcError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.raw.poll(cx).map(|sent| sent.map(drop))
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").field("function", &self.raw.function).finish_non_exhaustive()
    }
}
