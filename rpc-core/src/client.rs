//! The client: connects, and makes calls.

mod blocking;
mod call;
mod connection;
mod in_flight;
mod map;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Handle;

use self::connection::{Connection, EndCalls};
pub use self::{
    call::{Call, Dynamic, Notify},
    map::{Map, MapItem},
};
use crate::{
    args::Args,
    discover::ServiceDescription,
    endpoint::Endpoint,
    engine::Engine,
    error::{ErrorKind, Ran, RpcError},
    function::RemoteFn,
    io_thread::{IoThread, LINGER},
    message::DEFAULT_MAX_MESSAGE_SIZE,
    transport::Carrier,
};

/// How long a call may take unless call, function or client says otherwise: what other frameworks' users
/// expect, and long enough for a function that works.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long [`Client::connect`] waits for a server: long enough for one that is just starting.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How many calls a client has in flight at most: a few hundred bytes each, and as many replies as a server's
/// default limit allows several times over.
const DEFAULT_MAX_IN_FLIGHT: usize = 65_536;

/// A connection to a server, on which any number of tasks and threads make calls at the same time.
///
/// Cheap to clone: the clones share one connection. When it is lost it is made again, for ever; calls that
/// were sent end as [`Disconnected`](ErrorKind::Disconnected), and those that were not wait within their
/// deadline. The I/O runs on a thread that all clients of the process share, so that no async runtime is
/// needed; see also [`ClientBuilder::use_current_runtime`].
///
/// When the last clone and the last [`Call`] have gone, what is still to be sent is sent in the background,
/// for a second at most. [`close`](Self::close) waits for that.
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
    connection: Arc<Connection>,
    timeout: Duration,
    /// Ends with the last client that uses it.
    _io: Option<Arc<IoThread>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.connection.close();
    }
}

impl Client {
    /// Connects to the server at `endpoint` (`tcp://host:port`, `ipc:///path` or `inproc://name`), and waits
    /// until it answers. See [`ClientBuilder::connect`].
    pub fn connect(endpoint: impl AsRef<str>) -> Connect {
        Self::builder().connect(endpoint)
    }

    /// A client that connects in the background. See [`ClientBuilder::connect_lazy`].
    ///
    /// # Errors
    /// [`InvalidEndpoint`](ErrorKind::InvalidEndpoint), or if the I/O thread cannot be started.
    pub fn connect_lazy(endpoint: impl AsRef<str>) -> Result<Self, RpcError> {
        Self::builder().connect_lazy(endpoint)
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

    /// Calls a function that is known by name only. `params` becomes the params of the request: a tuple or
    /// sequence by position, a struct or map by parameter name, `()` for none. Bytes among them need
    /// `serde_bytes`. The result is decoded to `R`.
    ///
    /// ```
    /// # async fn example(client: rpc_core::Client) -> Result<(), rpc_core::RpcError> {
    /// let sum = client.call_dynamic::<i64>("add", (1, 2)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`RpcError`]. The function's own error has kind [`Failed`](ErrorKind::Failed), and
    /// [`RpcError::data`] decodes it.
    pub fn call_dynamic<R>(&self, name: &str, params: impl Serialize) -> Call<Dynamic<R>>
    where
        R: DeserializeOwned + Send + 'static,
    {
        self.call(Args::dynamic(name, &params))
    }

    /// Asks the server whether it is there. The answer comes from its I/O thread, so that a server whose
    /// workers are busy answers as fast as an idle one.
    ///
    /// # Errors
    /// [`RpcError`] if it did not answer in the client's timeout.
    pub fn ping(&self) -> Call<Dynamic<()>> {
        self.call_dynamic("rpc.ping", ())
    }

    /// Asks the server what it serves.
    ///
    /// # Errors
    /// [`RpcError`] if it did not answer in the client's timeout.
    pub fn discover(&self) -> Call<Dynamic<ServiceDescription>> {
        self.call_dynamic("rpc.discover", ())
    }

    /// The endpoint, as it was given.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.0.connection.endpoint()
    }

    /// Takes no new calls, waits until the server has read what was sent (a second at most), and ends the
    /// connection. Calls that are still waiting then end as [`Disconnected`](ErrorKind::Disconnected). The
    /// same goes for every clone of this client.
    ///
    /// It is lazy, and once begun it is to be finished: await it, or block with [`Close::wait`].
    pub fn close(self) -> Close {
        Close(Box::pin(async move {
            let connection = &self.0.connection;
            connection.flush(Instant::now() + LINGER).await;
            connection.close();
            connection.ended().await;
        }))
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.0.connection
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.0.timeout
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint()).finish_non_exhaustive()
    }
}

/// The moment when `timeout` is over. One that no clock can hold is as good as a century.
fn deadline_in(timeout: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    Instant::now() + timeout.min(CENTURY)
}

/// The options of a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    timeout: Duration,
    connect_timeout: Duration,
    max_in_flight: usize,
    max_message_size: usize,
    engine: Engine,
    current_runtime: bool,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            max_message_size: DEFAULT_MAX_MESSAGE_SIZE,
            engine: Engine::default(),
            current_runtime: false,
        }
    }
}

impl ClientBuilder {
    /// How long a call may take, where neither it nor its function says. 30 s unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long [`connect`](Self::connect) waits for the server to answer. 5 s unless set.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How many calls may be in flight at once; one more fails as [`Overloaded`](ErrorKind::Overloaded)
    /// without being sent. 65,536 unless set.
    #[must_use]
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// The longest request that is sent and the longest reply that is accepted, in bytes; the server's limit
    /// for requests holds as well. 16 MiB unless set.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// The ZeroMQ implementation for `tcp://` and `ipc://`. [`Engine::Zeromq`] unless set. The server may use
    /// another.
    #[must_use]
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Runs the connection on the tokio runtime that `connect` is called in, instead of the I/O thread that
    /// the process's clients share. On a current-thread runtime this saves a hop between threads for each
    /// call and each reply. On a multi-thread runtime it is slower under load. The runtime must have its I/O
    /// and time drivers enabled. When it ends, so does the client.
    #[must_use]
    pub fn use_current_runtime(mut self) -> Self {
        self.current_runtime = true;
        self
    }

    /// Connects, and waits until the server has answered. A server that is not there yet is waited for.
    ///
    /// # Errors
    /// [`InvalidEndpoint`](ErrorKind::InvalidEndpoint) at once; [`Disconnected`](ErrorKind::Disconnected)
    /// when the connect timeout has passed, with the reason why the last attempt failed.
    pub fn connect(self, endpoint: impl AsRef<str>) -> Connect {
        let timeout = self.connect_timeout;
        let by = deadline_in(timeout);
        let client = self.start(endpoint.as_ref(), Some(by));
        let connecting = async move {
            let client = client?;
            client.up(timeout).await?;
            Ok(client)
        };
        Connect { connecting: Box::pin(connecting), by }
    }

    /// Connects in the background: calls made meanwhile wait for the connection, within their deadline.
    ///
    /// # Errors
    /// [`InvalidEndpoint`](ErrorKind::InvalidEndpoint), or if the I/O thread cannot be started.
    ///
    /// # Panics
    /// With [`use_current_runtime`](Self::use_current_runtime), outside a tokio runtime.
    pub fn connect_lazy(self, endpoint: impl AsRef<str>) -> Result<Client, RpcError> {
        self.start(endpoint.as_ref(), None)
    }

    fn start(self, text: &str, connect_by: Option<Instant>) -> Result<Client, RpcError> {
        let text: Arc<str> = text.into();
        let fail = |kind, message: &str| RpcError::new(kind, Ran::No, message).of("".into(), &text);
        let endpoint =
            Endpoint::to_connect(&text).map_err(|reason| fail(ErrorKind::InvalidEndpoint, &reason))?;
        let connection = Connection::new(Arc::clone(&text), self.max_in_flight, self.max_message_size);
        let carrier = Carrier { engine: self.engine, max_message_size: self.max_message_size };
        let task = connection::run(EndCalls(Arc::clone(&connection)), endpoint, carrier, connect_by);
        let io = if self.current_runtime {
            Handle::current().spawn(task);
            None
        } else {
            let io = IoThread::shared().map_err(|cause| {
                fail(ErrorKind::Disconnected, "cannot start the I/O thread").with_source(cause)
            })?;
            io.handle().spawn(task);
            Some(io)
        };
        Ok(Client(Arc::new(Inner { connection, timeout: self.timeout, _io: io })))
    }
}

impl Client {
    /// Waits until there is a connection. The connection's task keeps the time.
    async fn up(&self, timeout: Duration) -> Result<(), RpcError> {
        let Err(cause) = self.0.connection.first().await else { return Ok(()) };
        let message = format!("no server answered within {timeout:?}");
        let error = RpcError::new(ErrorKind::Disconnected, Ran::No, message).with_source(&*cause);
        Err(error.of("".into(), self.0.connection.endpoint()))
    }
}

/// Connecting, made by [`Client::connect`]. It has begun already; await it, or block with
/// [`wait`](Self::wait). Dropping it ends the connection.
#[must_use = "await it, or call `.wait()`, to get the client"]
pub struct Connect {
    connecting: Pin<Box<dyn Future<Output = Result<Client, RpcError>> + Send>>,
    by: Instant,
}

impl Connect {
    /// Blocks the thread until the server has answered, for programs without an async runtime.
    ///
    /// # Errors
    /// As awaiting it.
    pub fn wait(self) -> Result<Client, RpcError> {
        /// The connection's own task keeps the time; it is given this much before it is mistrusted.
        const GRACE: Duration = Duration::from_millis(500);
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

/// Closing, made by [`Client::close`]. Await it, or block with [`wait`](Self::wait).
#[must_use = "await it, or call `.wait()`, to close the client"]
pub struct Close(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Close {
    /// Blocks the thread until the client is closed, for programs without an async runtime.
    pub fn wait(self) {
        // The connection's own task ends within the lingering time; if it does not run there is nothing to
        // wait for.
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
