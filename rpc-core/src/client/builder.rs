//! The options of a client, and connecting.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use tokio::runtime::Handle;

use crate::{
    client::{
        Client, blocking,
        calls::capacity::WhenFull,
        config::{ClientConfig, deadline_after},
        core::{
            ClientCore,
            run::{Changes, EndOnDrop, run},
        },
        endpoints::{Change, EndpointState, names},
    },
    endpoint::{Endpoint, Endpoints},
    engine::Engine,
    error::{ErrorKind, Ran, RpcError},
    util::{io_thread::IoThread, setters::setters},
};

/// The options of a [`Client`]. Begin with [`Client::builder`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    config: ClientConfig,
}

impl Client {
    /// Sets options before connecting.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder { config: ClientConfig::default() }
    }

    /// Connects to the servers at one endpoint or several (`tcp://host:port`, `ipc:///path` or
    /// `inproc://name`), and waits until one answers. See [`ClientBuilder::connect`].
    pub fn connect(endpoints: impl Endpoints) -> Connect {
        Self::builder().connect(endpoints)
    }

    /// Makes a client that connects in the background. See [`ClientBuilder::connect_lazy`].
    ///
    /// # Errors
    /// [`InvalidEndpoint`](ErrorKind::InvalidEndpoint), or if the I/O thread cannot be started.
    pub fn connect_lazy(endpoints: impl Endpoints) -> Result<Self, RpcError> {
        Self::builder().connect_lazy(endpoints)
    }
}

setters! { ClientBuilder {
    /// Sets the time that a call may take, where neither it nor its function has a timeout. The default
    /// is 30 s: users of other frameworks expect it, and most functions are faster.
    timeout: Duration,

    /// Sets the time for which [`connect`](Self::connect) waits until a server answers. The default is
    /// 5 s, long enough for a server that is just starting.
    connect_timeout: Duration,

    /// Sets the number of times that a call may be tried again, where neither it nor its function has a
    /// number. By default a call is tried again as often as its deadline allows. Backoff up to a second,
    /// and a budget for all calls of the client, keep retries from becoming a storm. See
    /// [`Call::retries`](crate::Call::retries).
    retries: u32,

    /// Sets the time after which a connection counts as lost, if the server owes replies and sends
    /// nothing.
    ///
    /// The client pings the server meanwhile. A healthy server answers from its I/O thread, however busy
    /// its workers are. So a server that does not answer is frozen, dead, or cut off. It is noticed up to
    /// a quarter of this time later. The default is 5 s: far longer than any pause of a healthy process
    /// or network, and far shorter than the default timeout of a call. The minimum is 20 ms. A message
    /// counts when all of it has arrived: set a longer time if one takes longer over the network.
    keepalive_timeout: Duration,

    /// Sets the number of calls that may be in flight at once, from submission until the outcome is
    /// taken. The default is 65,536: more than a server admits by default, at a few hundred bytes each.
    /// See [`when_full`](Self::when_full).
    max_in_flight: usize,

    /// Sets the number of bytes that requests which await their replies, and replies that were not taken
    /// yet, may have together. A larger call is made when nothing else is in flight. The default is
    /// 256 MiB: sixteen messages of the largest size, and small enough for most machines. See
    /// [`when_full`](Self::when_full).
    max_bytes_in_flight: usize,

    /// Sets what happens to a call when as much is in flight as may be. By default it waits within its
    /// deadline: a program that is faster than its servers is slowed down, and does not fail.
    when_full: WhenFull,

    /// Sets the longest request that is sent and the longest reply that is accepted, in bytes. The
    /// server's limit for requests holds as well. The default is 16 MiB: far more than most calls need,
    /// and small enough that a hundred of them fit into a machine.
    max_message_size: usize,

    /// Sets the ZeroMQ implementation for `tcp://` and `ipc://`. The default is [`Engine::Zeromq`]. The
    /// server may use another one.
    engine: Engine,
} }

impl ClientBuilder {
    /// Ends calls at once as [`Disconnected`](ErrorKind::Disconnected) while there is no connection,
    /// instead of letting them wait for one within their deadline. See
    /// [`Call::fail_fast`](crate::Call::fail_fast).
    #[must_use]
    pub fn fail_fast(mut self) -> Self {
        self.config.fail_fast = true;
        self
    }

    /// Runs the connections on the tokio runtime that `connect` is called in, instead of the I/O thread
    /// that the clients of the process share.
    ///
    /// On a current-thread runtime this saves a hop between threads for each call and each reply. On a
    /// multi-thread runtime it is slower under load. The runtime must have its I/O and time drivers
    /// enabled. The client ends with the runtime, and deadlines are kept only while the runtime runs.
    #[must_use]
    pub fn use_current_runtime(mut self) -> Self {
        self.config.use_current_runtime = true;
        self
    }

    /// Connects to one endpoint or several, and waits until one has answered. The others are connected in
    /// the background. A server that is not there yet is waited for.
    ///
    /// # Errors
    /// [`InvalidEndpoint`](ErrorKind::InvalidEndpoint) at once. [`Disconnected`](ErrorKind::Disconnected)
    /// when the connect timeout has passed, with the reasons why the last attempts failed.
    pub fn connect(self, endpoints: impl Endpoints) -> Connect {
        let timeout = self.config.connect_timeout;
        let by = deadline_after(Instant::now(), timeout);
        let started = self.start(endpoints, Some(by));
        let connecting = async move {
            let (client, endpoints) = started?;
            let Err(cause) = client.core().connected().await else { return Ok(client) };
            let message = format!("no server answered within {timeout:?}");
            let error =
                RpcError::new(ErrorKind::Disconnected, Ran::No, message).with_source(&*cause);
            Err(error.at(&names(&endpoints).into()))
        };
        Connect { connecting: Box::pin(connecting), by }
    }

    /// Connects in the background. Calls that are made meanwhile wait for a connection, within their
    /// deadline.
    ///
    /// # Errors
    /// [`InvalidEndpoint`](ErrorKind::InvalidEndpoint), or if the I/O thread cannot be started.
    ///
    /// # Panics
    /// With [`use_current_runtime`](Self::use_current_runtime), outside a tokio runtime.
    pub fn connect_lazy(self, endpoints: impl Endpoints) -> Result<Client, RpcError> {
        self.start(endpoints, None).map(|(client, _)| client)
    }

    fn start(
        self,
        endpoints: impl Endpoints,
        connect_by: Option<Instant>,
    ) -> Result<(Client, Vec<Arc<EndpointState>>), RpcError> {
        let Self { config } = self;
        let endpoints = parse(endpoints)?;
        let core = ClientCore::new(&config, &endpoints);
        let changes: Changes = stream::iter(endpoints.clone()).map(Change::Insert).boxed();
        let task = run(EndOnDrop(Arc::clone(&core)), changes, connect_by);
        let io = if config.use_current_runtime {
            Handle::current().spawn(task);
            None
        } else {
            let io = shared_io_thread().map_err(|cause| {
                let message = "cannot start the I/O thread";
                RpcError::new(ErrorKind::Disconnected, Ran::No, message).with_source(cause)
            })?;
            io.handle().spawn(task);
            Some(io)
        };
        Ok((Client::new(core, config, io), endpoints))
    }
}

/// Returns the thread that all clients of this process share. It ends when the last of them has gone.
fn shared_io_thread() -> io::Result<Arc<IoThread>> {
    static SHARED: Mutex<Weak<IoThread>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = shared.upgrade() {
        return Ok(running);
    }
    let started = Arc::new(IoThread::start("rpc-client-io")?);
    *shared = Arc::downgrade(&started);
    Ok(started)
}

fn parse(endpoints: impl Endpoints) -> Result<Vec<Arc<EndpointState>>, RpcError> {
    let texts = endpoints.into_texts();
    let invalid = |name: &Arc<str>, reason: &str| {
        RpcError::new(ErrorKind::InvalidEndpoint, Ran::No, reason).at(name)
    };
    if texts.is_empty() {
        return Err(invalid(&Arc::from(""), "no endpoint was given"));
    }
    let parse = |text: String| {
        let name = Arc::from(text);
        match Endpoint::to_connect(&name) {
            Ok(address) => Ok(EndpointState::new(name, address)),
            Err(reason) => Err(invalid(&name, &reason)),
        }
    };
    texts.into_iter().map(parse).collect()
}

/// The future of [`Client::connect`]. Connecting has begun already: await it, or block with
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
        /// The client's own task keeps the time. It counts as stopped when it is so late.
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
