//! The client: connects, and makes calls.

mod blocking;
mod builder;
mod call;
mod channel;
pub(crate) mod in_flight;
pub(crate) mod links;
mod map;
pub(crate) mod retry;
pub(crate) mod room;
mod status;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};

use self::channel::Channel;
pub use self::{
    builder::{ClientBuilder, Connect},
    call::{Call, Dynamic, Notify},
    map::{Map, MapItem},
    room::WhenFull,
    status::{ClientStatus, EndpointState, EndpointStatus},
};
use crate::{
    args::Args,
    discover::ServiceDescription,
    endpoint::Endpoints,
    error::RpcError,
    function::RemoteFn,
    io_thread::{IoThread, LINGER},
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
///   [while](ClientBuilder::max_silence) its connection counts as lost. Pings are answered while
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
    channel: Arc<Channel>,
    timeout: Duration,
    retries: u32,
    fail_fast: bool,
    /// Ends with the last client that uses it.
    _io: Option<Arc<IoThread>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.channel.close();
    }
}

impl Client {
    /// Connects to the servers at one endpoint or several (`tcp://host:port`, `ipc:///path` or
    /// `inproc://name`), and waits until one answers. See [`ClientBuilder::connect`].
    pub fn connect(endpoints: impl Endpoints) -> Connect {
        Self::builder().connect(endpoints)
    }

    /// A client that connects in the background. See [`ClientBuilder::connect_lazy`].
    ///
    /// # Errors
    /// [`InvalidEndpoint`](crate::ErrorKind::InvalidEndpoint), or if the I/O thread cannot be
    /// started.
    pub fn connect_lazy(endpoints: impl Endpoints) -> Result<Self, RpcError> {
        Self::builder().connect_lazy(endpoints)
    }

    /// Sets options before connecting.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// The call of `F` with `args`. For generic code: `F::call(&client, ...)` is shorter.
    pub fn call<F: RemoteFn>(&self, args: Args<F>) -> Call<F> {
        Call::new(self.clone(), args)
    }

    /// The notification of `F` with `args`. For generic code: `F::notify(&client, ...)` is shorter.
    pub fn notify<F: RemoteFn>(&self, args: Args<F>) -> Notify {
        Notify::new(self.clone(), args)
    }

    /// Calls a function that is known by name only. `params` becomes the params of the request: a
    /// tuple or sequence by position, a struct or map by parameter name, `()` for none. Bytes among
    /// them need `serde_bytes`. The result is decoded to `R`.
    ///
    /// ```
    /// # async fn example(client: rpc_core::Client) -> Result<(), rpc_core::RpcError> {
    /// let sum = client.call_dynamic::<i64>("add", (1, 2)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`RpcError`]. The function's own error has kind [`Failed`](crate::ErrorKind::Failed), and
    /// [`RpcError::data`] decodes it.
    pub fn call_dynamic<R>(&self, name: &str, params: impl Serialize) -> Call<Dynamic<R>>
    where
        R: DeserializeOwned + Send + 'static,
    {
        self.call(Args::dynamic(name, &params))
    }

    /// Asks a server whether it is there. The answer comes from its I/O thread, so that a server
    /// whose workers are busy answers as fast as an idle one.
    ///
    /// # Errors
    /// [`RpcError`] if it did not answer in the client's timeout.
    pub fn ping(&self) -> Call<Dynamic<()>> {
        self.call_dynamic("rpc.ping", ()).idempotent()
    }

    /// Asks a server what it serves.
    ///
    /// # Errors
    /// [`RpcError`] if it did not answer in the client's timeout.
    pub fn discover(&self) -> Call<Dynamic<ServiceDescription>> {
        self.call_dynamic("rpc.discover", ()).idempotent()
    }

    /// The endpoints, as they were given.
    #[must_use]
    pub fn endpoints(&self) -> Vec<&str> {
        self.0.channel.endpoints().iter().map(|endpoint| &**endpoint).collect()
    }

    /// How the client is doing right now: which endpoints are connected, what is in flight, how
    /// often calls were made again. It looks at every endpoint under the lock that calls take, so
    /// it is not for each call.
    #[must_use]
    pub fn status(&self) -> ClientStatus {
        self.0.channel.status()
    }

    /// Takes no new calls, waits until the servers have read what was sent (a second at most), and
    /// ends the connections. Calls that are still waiting then end as
    /// [`Disconnected`](crate::ErrorKind::Disconnected). The same goes for every clone of this
    /// client.
    ///
    /// It is lazy, and once begun it is to be finished: await it, or block with [`Close::wait`].
    pub fn close(self) -> Close {
        Close(Box::pin(async move {
            self.0.channel.close();
            self.0.channel.ended().await;
        }))
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.0.channel
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.0.timeout
    }

    pub(crate) fn retries(&self) -> u32 {
        self.0.retries
    }

    pub(crate) fn fail_fast(&self) -> bool {
        self.0.fail_fast
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}

/// The moment when `timeout` is over. One that no clock can hold is as good as a century.
fn deadline_in(now: Instant, timeout: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    now + timeout.min(CENTURY)
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
