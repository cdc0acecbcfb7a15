//! The client, which connects to servers and calls their functions.

pub(crate) mod agreed;
pub(crate) mod balancer;
mod balancing;
mod blocking;
mod builder;
mod call;
pub(crate) mod calls;
mod config;
mod connect;
mod core;
#[cfg(feature = "curve")]
mod curve;
mod discovery;
pub(crate) mod endpoints;
mod expect;
pub(crate) mod hooks;
mod map;
mod metadata;
#[cfg(feature = "metrics")]
mod metrics;
mod notify;
mod raw_call;
mod span;
mod status;
mod streaming;
mod targets;
mod upload;
pub(crate) mod window;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use self::{config::ClientConfig, core::ClientCore};
use crate::util::io_thread::{IoThread, LINGER};

pub use self::{
    balancing::{Balancing, UnknownBalancing},
    builder::ClientBuilder,
    call::{Call, Dynamic},
    calls::capacity::WhenFull,
    connect::Connect,
    hooks::{ClientHook, EndedCall, StartingCall},
    map::{CollectOrdered, Map, MapItem},
    notify::Notify,
    status::{ClientStatus, Connectivity, EndpointStatus, SourceStatus},
    streaming::Streaming,
    upload::Upload,
};

/// A client of one server, or of several servers that offer the same functions.
///
/// A client is cheap to clone, and the clones share one connection to each endpoint. Any number of
/// tasks and threads can make calls at the same time. The I/O runs on a thread that all clients of
/// the process share, so that no async runtime is needed. See also
/// [`ClientBuilder::use_current_runtime`].
///
/// # Failures
/// - **Lost connections.** The client reconnects for as long as it exists, with a backoff that
///   grows to two seconds. A call that was not sent yet goes to another endpoint, or waits for a
///   connection within its deadline. With [`fail_fast`](Call::fail_fast), the call ends at once
///   instead of waiting.
/// - **Load balancing.** Of two endpoints chosen at random, each call goes to the one with fewer
///   calls in flight; [`Balancing`] has other policies. A server that is overloaded gets calls only
///   if there is no other server, until the pause that it asked for has passed. The same is true of a server that owes the
///   answer to a ping, until it answers.
/// - **Unresponsive servers.** The client pings a server that owes replies and sends nothing. After
///   the [keepalive timeout](ClientBuilder::keepalive_timeout), the connection counts as lost. A
///   server answers pings even while all of its workers are busy.
/// - **Retries.** A call is retried if its connection was lost, or if its server was overloaded or
///   shutting down. It is retried within its deadline, at another server if possible, and only if
///   that is safe: the function is `idempotent`, or is known not to have run, or the call has an
///   [idempotency key](Call::idempotency_key). Otherwise, a call whose connection was lost ends as
///   [`Disconnected`](crate::ErrorKind::Disconnected), and its [`ran`](crate::RpcError::ran) is
///   `Maybe`.
///   See also [`Call::retries`].
///
/// # Closing
/// Once the last clone and the last [`Call`] have been dropped, the client sends what is still
/// queued in the background, for at most one second. To wait for this, use [`close`](Self::close).
///
/// # Examples
/// ```
/// use rpc_core::{Client, Server, remote};
///
/// #[remote]
/// fn greet(name: &str) -> String {
///     format!("Hello, {name}!")
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::bind("inproc://greetings").await?.spawn()?;
/// let client = Client::connect("inproc://greetings").await?;
/// assert_eq!(greet::call(&client, "Ada").await?, "Hello, Ada!");
/// # client.close().await;
/// # server.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    core: Arc<ClientCore>,
    config: ClientConfig,
    /// The I/O thread, which ends with the last client that uses it. `None` if the client runs on
    /// its caller's runtime.
    _io: Option<Arc<IoThread>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.core.close();
    }
}

impl Client {
    fn new(core: Arc<ClientCore>, config: ClientConfig, io: Option<Arc<IoThread>>) -> Self {
        Self(Arc::new(Inner { core, config, _io: io }))
    }

    /// Returns the endpoints that the client has now, as they were given to it or found, without
    /// user names and passwords.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Arc<str>> {
        self.0.core.endpoints()
    }

    /// Returns the current state of the client: the connections, the calls in flight, and the
    /// number of retries.
    ///
    /// This visits every endpoint while it holds the lock that calls take, so do not use it for
    /// every call.
    #[must_use]
    pub fn status(&self) -> ClientStatus {
        self.0.core.status()
    }

    /// Closes this client and all of its clones.
    ///
    /// The client refuses new calls, waits for at most one second until the servers have read what
    /// was sent, and then ends the connections. Calls that still wait for a reply end as
    /// [`Disconnected`](crate::ErrorKind::Disconnected).
    ///
    /// Nothing happens until the returned future is awaited, or [`Close::wait`] is called. Once
    /// begun, closing should be awaited to its end.
    pub fn close(self) -> Close {
        Close(Box::pin(async move {
            self.0.core.close();
            self.0.core.ended().await;
        }))
    }

    fn core(&self) -> &ClientCore {
        &self.0.core
    }

    fn config(&self) -> &ClientConfig {
        &self.0.config
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}

/// The future that [`Client::close`] returns. Await it, or block with [`wait`](Self::wait).
#[must_use = "await it, or call `.wait()`, to close the client"]
pub struct Close(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Close {
    /// Blocks the current thread until the client is closed, for programs without an async runtime.
    pub fn wait(self) {
        // An I/O thread cannot wait for itself.
        if blocking::check_thread().is_err() {
            return;
        }
        // The tasks of the client end within `LINGER`. After twice that time, their runtime does
        // not run any more, and there is nothing to wait for.
        let _ = blocking::wait_until(Instant::now() + 2 * LINGER, self.0);
    }
}

impl Future for Close {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Close").finish_non_exhaustive()
    }
}
