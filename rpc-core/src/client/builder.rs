//! The options of a client, and the functions that connect it.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use tokio::runtime::Handle;

use crate::{
    client::{
        Client,
        balancing::Balancing,
        calls::capacity::WhenFull,
        config::ClientConfig,
        connect::Connect,
        core::{
            ClientCore,
            run::{Changes, EndOnDrop, run},
        },
        discovery::changes,
        endpoints::Change,
        hooks::ClientHook,
        targets::Targets,
    },
    discovery::{Discovery, Source},
    endpoint::texts::Endpoints,
    engine::Engine,
    error::{ErrorKind, Ran, RpcError},
    function::RemoteFn,
    util::{deadline::deadline_after, io_thread::IoThread, setters::setters},
};

#[cfg(feature = "metrics")]
use crate::client::metrics::CallMetrics;

/// The options of a [`Client`], made by [`Client::builder`].
///
/// ```
/// use std::time::Duration;
///
/// use rpc_core::{Client, RpcError};
///
/// # async fn example() -> Result<(), RpcError> {
/// let client = Client::builder()
///     .timeout(Duration::from_secs(2))
///     .retries(3)
///     .connect("tcp://127.0.0.1:5555")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    pub(super) config: ClientConfig,
}

impl Client {
    /// Returns a builder with the default options.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder { config: ClientConfig::default() }
    }

    /// Connects to one endpoint or several, and waits until one server has answered.
    ///
    /// An endpoint is `tcp://host:port`, `ipc:///path`, `inproc://name` or `amqp://host`. See
    /// [`ClientBuilder::connect`].
    ///
    /// # Errors
    /// The errors of [`ClientBuilder::connect`].
    pub fn connect(endpoints: impl Endpoints) -> Connect {
        Self::builder().connect(endpoints)
    }

    /// Returns a client that connects in the background. See [`ClientBuilder::connect_lazy`].
    ///
    /// # Errors
    /// The errors of [`ClientBuilder::connect_lazy`].
    pub fn connect_lazy(endpoints: impl Endpoints) -> Result<Self, RpcError> {
        Self::builder().connect_lazy(endpoints)
    }
}

setters! { ClientBuilder {
    /// Sets the timeout of calls. A timeout of the call itself, or of its function, takes
    /// precedence. It does not limit calls with streams: see
    /// [`stream_idle_timeout`](Self::stream_idle_timeout).
    ///
    /// The default is 30 s: users of other frameworks expect it, and most functions are faster.
    timeout: Duration,

    /// Sets the longest time that a server may take for the next item of a stream that a call
    /// returns, and for the next credit, or the reply, if a call passes a stream. A caller that takes
    /// its time for its own part is waited for. The same time limits how long such a call may wait
    /// until it is sent.
    ///
    /// An [idle timeout](crate::Streaming::idle_timeout) of the stream itself takes precedence. The
    /// default is 30 s, as for calls. `Duration::MAX` is no limit.
    stream_idle_timeout: Duration,

    /// Sets the bytes of items of a stream that may be on their way or wait for the caller. There is
    /// at least one. A window of the stream itself takes precedence.
    ///
    /// The default is 1 MiB, which keeps a connection with a round trip of 1 ms busy at 8 Gbit/s. A
    /// stream begins with 16 KiB, and its window grows only while its reader waits for the sender:
    /// ten thousand streams that nobody reads hold 160 MB. What waits counts against
    /// [`max_bytes_in_flight`](Self::max_bytes_in_flight).
    stream_window: u64,

    /// Sets the longest time for which [`connect`](Self::connect) waits until a server answers.
    ///
    /// The default is 5 s, which is long enough for a server that is just starting.
    connect_timeout: Duration,

    /// Sets the maximum number of retries of a call. A number that is set for the call itself, or
    /// for its function, takes precedence.
    ///
    /// By default, a call is retried as often as its deadline allows. A backoff of up to one
    /// second, and a retry budget for all calls of the client, prevent a retry storm. See
    /// [`Call::retries`](crate::Call::retries).
    retries: u32,

    /// Sets the time after which a connection counts as lost, if the server owes replies and has
    /// sent nothing.
    ///
    /// The client pings the server meanwhile. A healthy server answers pings from its I/O thread,
    /// however busy its workers are. A server that does not answer is therefore frozen, dead, or
    /// cut off. The client notices this up to a quarter of the timeout later.
    ///
    /// A message counts only once all of it has arrived. Set a longer timeout if a large message
    /// can take longer than this over your network.
    ///
    /// The default is 5 s, which is far longer than any pause of a healthy process or network, and
    /// far shorter than the default timeout of a call. The minimum is 20 ms.
    keepalive_timeout: Duration,

    /// Sets the maximum number of calls in flight.
    ///
    /// A call is in flight from its submission until its caller has taken the outcome. Beyond this
    /// limit, [`when_full`](Self::when_full) applies. The default is 65,536, which is more than a
    /// server takes by default. The client keeps the calls that its servers do not take yet. Each
    /// call in flight takes a few hundred bytes.
    max_in_flight: usize,

    /// Sets the maximum number of bytes in flight. Requests that wait for their replies count, and
    /// so do replies that their callers have not taken yet.
    ///
    /// Beyond this limit, [`when_full`](Self::when_full) applies. A single request that exceeds the
    /// limit is sent when no other call is in flight. The default is 256 MiB, which is sixteen
    /// messages of the largest size, and small enough for most machines.
    max_bytes_in_flight: usize,

    /// Sets the treatment of a call that would exceed [`max_in_flight`](Self::max_in_flight) or
    /// [`max_bytes_in_flight`](Self::max_bytes_in_flight).
    ///
    /// By default, the call waits within its deadline. A program that is faster than its servers is
    /// then slowed down, and does not fail.
    ///
    /// With [`WhenFull::Fail`], the client keeps no call waiting for a server either: it sends all
    /// of them, and the server refuses those that it does not take. Refused calls are retried
    /// within the retry budget, or not at all with [`retries(0)`](Self::retries).
    when_full: WhenFull,

    /// Sets the maximum size of a request that the client sends, and of a reply that it accepts, in
    /// bytes.
    ///
    /// The server's limit for requests applies as well. The default is 16 MiB, which is far more
    /// than most calls need, and small enough that the memory of a machine holds a hundred such
    /// messages.
    max_message_size: usize,

    /// Sets the ZeroMQ implementation for `tcp://` and `ipc://`.
    ///
    /// The server may use another implementation. The default is [`Engine::Zeromq`].
    engine: Engine,

    /// Sets the policy by which calls are spread over the servers.
    ///
    /// The default is [`Balancing::LeastLoaded`].
    balancing: Balancing,
} }

impl ClientBuilder {
    /// Lets all calls of the client end at once as [`Disconnected`](ErrorKind::Disconnected) while
    /// there is no connection.
    ///
    /// Without this option, calls wait for a connection within their deadline. See
    /// [`Call::fail_fast`](crate::Call::fail_fast).
    #[must_use]
    pub fn fail_fast(mut self) -> Self {
        self.config.fail_fast = true;
        self
    }

    /// Adds code that runs around every call. See [`ClientHook`].
    #[must_use]
    pub fn hook(mut self, hook: impl ClientHook) -> Self {
        self.config.hooks.add(hook);
        self
    }

    /// Connects only to servers that have the function `F` as it is known here: with the same
    /// parameters in the same order, the same result and the same error. To expect several
    /// functions, call this once for each.
    ///
    /// This is for sides that are built apart. Each time it connects, the client asks the server for
    /// its functions, and compares them. The reason why it does not connect names each difference.
    /// Types are compared as they are written, without paths and references: a type with the same
    /// name and other fields is not noticed. Either side may have more parameters at the end, if
    /// they are optional.
    ///
    /// ```
    /// use rpc_core::{Client, remote};
    ///
    /// #[remote]
    /// fn transfer(from: &str, to: &str, amount: u64) -> Result<u64, String>;
    ///
    /// # async fn example() -> Result<(), rpc_core::RpcError> {
    /// let client = Client::builder().expect::<transfer>().connect("tcp://127.0.0.1:5555").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn expect<F: RemoteFn>(mut self) -> Self {
        self.config.expected.push(F::SIGNATURE);
        self
    }

    /// Runs the connections on the tokio runtime in which `connect` or `connect_lazy` is called,
    /// instead of the I/O thread that the clients of the process share.
    ///
    /// On a current-thread runtime, this saves a hop between threads for each call and each reply.
    /// On a multi-thread runtime, it is slower under load.
    ///
    /// With the engine `omq`, the program must ignore SIGPIPE, as Rust programs do unless they
    /// change that. Otherwise a server that goes away can end the process. The client's own I/O
    /// thread takes care of that.
    ///
    /// The runtime must have its I/O and time drivers enabled. The client ends with the runtime,
    /// and deadlines are kept only while the runtime runs.
    #[must_use]
    pub fn use_current_runtime(mut self) -> Self {
        self.config.use_current_runtime = true;
        self
    }

    /// Connects to one endpoint or several, and waits until one server has answered.
    ///
    /// The client connects to the other endpoints in the background. If no server is there yet, the
    /// client tries again until the [`connect_timeout`](Self::connect_timeout). A host name is looked
    /// up again each time. If it has several addresses, the client connects to the first that
    /// answers, as in RFC 8305.
    ///
    /// # Errors
    /// - [`InvalidEndpoint`](ErrorKind::InvalidEndpoint), without waiting.
    /// - [`Disconnected`](ErrorKind::Disconnected) if no server has answered within the connect
    ///   timeout. Its source states the reasons why the last attempts failed.
    /// - [`Disconnected`](ErrorKind::Disconnected) if the I/O thread cannot be started.
    ///
    /// # Panics
    /// Panics if it is called outside a tokio runtime, with
    /// [`use_current_runtime`](Self::use_current_runtime).
    pub fn connect(self, endpoints: impl Endpoints) -> Connect {
        self.connect_to(Targets::parse(endpoints))
    }

    /// Connects to the endpoints that `discovery` names, now and later, and waits until one server
    /// has answered.
    ///
    /// # Errors
    /// [`Disconnected`](ErrorKind::Disconnected), as from [`connect`](Self::connect), also if
    /// `discovery` names no endpoint within the connect timeout.
    ///
    /// # Panics
    /// As [`connect`](Self::connect).
    pub fn connect_via(self, discovery: impl Discovery) -> Connect {
        self.connect_to(Ok(Targets::from(Source::new(discovery))))
    }

    fn connect_to(self, targets: Result<Targets, RpcError>) -> Connect {
        let timeout = self.config.connect_timeout;
        let by = deadline_after(Instant::now(), timeout);
        let started = targets.and_then(|targets| {
            let names = targets.names();
            Ok((self.start(targets, Some(by))?, names))
        });
        let connecting = async move {
            let (client, names) = started?;
            let Err(cause) = client.core().connected().await else { return Ok(client) };
            let message = if Instant::now() < by {
                "no server can be connected to".to_owned()
            } else {
                format!("no server answered within {timeout:?}")
            };
            let error =
                RpcError::new(ErrorKind::Disconnected, Ran::No, message).with_source(&*cause);
            Err(error.at(&names.into()))
        };
        Connect::new(connecting, by)
    }

    /// Returns a client at once, and connects it in the background.
    ///
    /// Calls that are made before there is a connection wait for one, within their deadline.
    ///
    /// # Errors
    /// - [`InvalidEndpoint`](ErrorKind::InvalidEndpoint).
    /// - [`Disconnected`](ErrorKind::Disconnected) if the I/O thread cannot be started.
    ///
    /// # Panics
    /// Panics if it is called outside a tokio runtime, with
    /// [`use_current_runtime`](Self::use_current_runtime).
    pub fn connect_lazy(self, endpoints: impl Endpoints) -> Result<Client, RpcError> {
        self.start(Targets::parse(endpoints)?, None)
    }

    /// Returns a client at once, and connects it in the background to the endpoints that
    /// `discovery` names. See [`connect_lazy`](Self::connect_lazy).
    ///
    /// # Errors
    /// [`Disconnected`](ErrorKind::Disconnected) if the I/O thread cannot be started.
    ///
    /// # Panics
    /// As [`connect_lazy`](Self::connect_lazy).
    pub fn connect_lazy_via(self, discovery: impl Discovery) -> Result<Client, RpcError> {
        self.start(Targets::from(Source::new(discovery)), None)
    }

    fn start(self, targets: Targets, connect_by: Option<Instant>) -> Result<Client, RpcError> {
        #[allow(unused_mut)] // Only with the feature.
        let Self { mut config } = self;
        #[cfg(feature = "metrics")]
        config.hooks.add_first(CallMetrics::new());
        config.check()?;
        let Targets { endpoints, sources } = targets;
        let names = sources.iter().map(|source| source.name.as_str().into());
        let core = ClientCore::new(&config, &endpoints, names);
        let fixed = stream::iter(endpoints).map(Change::Insert);
        let changes: Changes = fixed.chain(changes(sources)).boxed();
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
        Ok(Client::new(core, config, io))
    }
}

/// Returns the I/O thread that all clients of this process share, and starts it if there is none.
/// The thread ends when the last of these clients was dropped.
fn shared_io_thread() -> io::Result<Arc<IoThread>> {
    static SHARED: Mutex<Weak<IoThread>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = shared.upgrade().filter(|thread| thread.is_here()) {
        return Ok(running);
    }
    let started = Arc::new(IoThread::start("rpc-client-io")?);
    *shared = Arc::downgrade(&started);
    Ok(started)
}
