//! The client: connects, and makes calls.

pub(crate) mod balancer;
mod blocking;
mod builder;
mod call;
pub(crate) mod calls;
mod config;
mod core;
pub(crate) mod endpoints;
mod map;
mod status;

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
    builder::{ClientBuilder, Connect},
    call::{Call, Dynamic, Notify},
    calls::capacity::WhenFull,
    map::{Map, MapItem},
    status::{ClientStatus, Connectivity, EndpointStatus},
};

/// Calls the functions of a server, or of several that serve the same: any number of tasks and
/// threads make calls at the same time.
///
/// Cheap to clone: the clones share one connection to each endpoint. The I/O runs on a thread that
/// all clients of the process share, so that no async runtime is needed; see also
/// [`ClientBuilder::use_current_runtime`].
///
/// # When things fail
/// - A lost connection is made again, for ever, with pauses that grow to two seconds. Calls that
///   were not sent yet go to another endpoint, or wait within their deadline, or end at once if
///   they [`fail_fast`](Call::fail_fast).
/// - Of several endpoints, each call goes to the one with less to do of two that are chosen at
///   random. One that is overloaded, or has not answered a ping, gets calls only if there is no
///   other, until it answers.
/// - A server that owes replies and says nothing is pinged; after a
///   [while](ClientBuilder::keepalive_timeout) its connection counts as lost. Pings are answered while
///   every worker is busy.
/// - A call that failed because its connection was lost, or its server was overloaded or shutting
///   down, is made again within its deadline, elsewhere if possible, if that is safe: the function
///   is `idempotent`, or it is known not to have run. Otherwise it ends as
///   [`Disconnected`](crate::ErrorKind::Disconnected), and [`ran`](RpcError::ran) says `Maybe`. See
///   [`Call::retries`] and [`Call::idempotency_key`].
///
/// When the last clone and the last [`Call`] have gone, what is still to be sent is sent in the
/// background, for a second at most. [`close`](Self::close) waits for that.
///
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
    /// Ends with the last client that uses it. `None` if the client runs on its caller's runtime.
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

    /// Returns the endpoints, as they were given.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Arc<str>> {
        self.0.core.endpoints()
    }

    /// How the client is doing right now: which endpoints are connected, what is in flight, how
    /// often calls were made again. It looks at every endpoint under the lock that calls take, so
    /// it is not for each call.
    #[must_use]
    pub fn status(&self) -> ClientStatus {
        self.0.core.status()
    }

    /// Takes no new calls, waits until the servers have read what was sent (a second at most), and
    /// ends the connections. Calls that are still waiting then end as
    /// [`Disconnected`](crate::ErrorKind::Disconnected). The same goes for every clone of this
    /// client.
    ///
    /// It is lazy, and once begun it is to be finished: await it, or block with [`Close::wait`].
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

/// Closing, made by [`Client::close`]. Await it, or block with [`wait`](Self::wait).
#[must_use = "await it, or call `.wait()`, to close the client"]
pub struct Close(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Close {
    /// Blocks the thread until the client is closed, for programs without an async runtime.
    pub fn wait(self) {
        // The connection's own task ends within the lingering time; if it does not run there is
        // nothing to wait for.
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
