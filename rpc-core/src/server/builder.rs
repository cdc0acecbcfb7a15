//! The options of a server, and how it is bound to its endpoints.

use std::{
    any::{Any, TypeId, type_name},
    fmt,
    sync::Arc,
    time::Duration,
};

use tokio::runtime::Handle;

use crate::{
    endpoint::{Endpoint, redacted, texts::Endpoints},
    engine::Engine,
    handler::{Entry, ServedFn},
    server::{
        Server,
        config::ServerConfig,
        error::ServeError,
        exposure,
        hooks::{Hooks, ServerHook},
        registry::{Registry, States},
        service::Service,
    },
    transport::{Workload, open},
    util::{io_thread::IoThread, setters::setters},
};

#[cfg(feature = "metrics")]
use crate::server::metrics::CallMetrics;

/// The options of a [`Server`]. [`Server::builder`] returns the defaults, and [`bind`](Self::bind)
/// makes the server.
///
/// ```no_run
/// use std::time::Duration;
///
/// use rpc_core::Server;
///
/// # struct Database;
/// # async fn example(database: Database) -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder()
///     .state(database)
///     .workers(16)
///     .drain_timeout(Duration::from_secs(5))
///     .bind(["tcp://*:5555", "ipc:///run/app.sock"])
///     .await?;
/// server.serve_until(tokio::signal::ctrl_c()).await?;
/// # Ok(())
/// # }
/// ```
pub struct ServerBuilder {
    states: States,
    /// The functions to serve. `None` means every function that is linked into this program.
    served: Option<Vec<&'static Entry>>,
    pub(super) config: ServerConfig,
}

impl Server {
    /// Returns a builder that sets options before the server is bound.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder { states: States::new(), served: None, config: ServerConfig::default() }
    }

    /// Binds a server with the default options to one endpoint or several.
    ///
    /// The server offers every `#[remote]` function with a body that is linked into this program,
    /// including the functions of the crates that the program depends on. The linker leaves out a
    /// crate that is a dependency but is never named in the code. Write `use that_crate as _;` to
    /// link it.
    ///
    /// [`ServerBuilder::bind`] describes the endpoints.
    ///
    /// # Errors
    /// See [`ServerBuilder::bind`].
    pub async fn bind(endpoints: impl Endpoints) -> Result<Self, ServeError> {
        Self::builder().bind(endpoints).await
    }
}

setters! { ServerBuilder {
    /// Sets the number of worker threads, which run sync functions. There is at least one.
    ///
    /// By default, there is one for each core, which suits functions that compute. While other calls
    /// wait and the functions block, threads are added, up to 64 (or one for each core, if that is
    /// more). They end when they have been idle for 10 s. So functions that query a database need
    /// no setting.
    ///
    /// Every 10 ms, functions are taken to block if none of the waiting calls was started meanwhile,
    /// or if this process uses less than a quarter of the CPU time that there is for its threads;
    /// after a second, less than three quarters.
    ///
    /// A number that is set is fixed: no more than so many sync functions run at the same time. Set
    /// it for functions that need much memory each.
    workers: usize,

    /// Sets the number of requests that may be in flight at the same time, over all endpoints. A
    /// request is in flight while it waits for a worker and while its function runs. Calls of
    /// inline functions do not count.
    ///
    /// The server tells each client of this library how many of them it takes from this client. The
    /// client keeps the rest, in order, until the server has capacity. The server refuses further
    /// requests of other peers with [`Overloaded`](crate::ErrorKind::Overloaded).
    ///
    /// The default is 16,384, because a request takes little more memory than its message. There is
    /// at least one.
    ///
    /// # Fairness
    /// The clients that ask for more than a small part share the capacity equally. A sixteenth of
    /// it is a reserve: a peer may use the reserve only while it has no more requests in flight
    /// than are free. So a peer with few requests finds capacity, however many the other peers
    /// send. A proxy, with all clients behind it, is one peer.
    max_in_flight: usize,

    /// Sets the number of bytes that the requests in flight may have together. A request of the
    /// largest size is always accepted when no other is in flight.
    ///
    /// The server refuses further requests with [`Overloaded`](crate::ErrorKind::Overloaded). The
    /// peers share the bytes by the rule of [`max_in_flight`](Self::max_in_flight).
    ///
    /// The default is 256 MiB, which is sixteen requests of the largest size.
    max_bytes_in_flight: usize,

    /// Sets the number of requests that may wait in the queues of the worker threads.
    ///
    /// The server refuses further requests with [`Overloaded`](crate::ErrorKind::Overloaded). Each
    /// peer has a queue of its own, and the workers serve the queues round-robin. A sixteenth of
    /// the capacity is a reserve for peers with short queues.
    ///
    /// By default, all requests that may be [in flight](Self::max_in_flight) may also wait for a
    /// worker. With a lower limit, callers learn sooner that the workers are busy. If the limit is
    /// very small, the server can refuse a request because a worker that has just answered is not
    /// idle yet.
    max_waiting: usize,

    /// Sets the largest size of a request that the server accepts, and of a reply that it sends, in
    /// bytes. A call with a larger message fails with [`TooLarge`](crate::ErrorKind::TooLarge).
    ///
    /// The default is 16 MiB. Most calls need far less, and a hundred messages of this size fit
    /// into the memory of a machine.
    max_message_size: usize,

    /// Sets the number of bytes of replies that may wait until peers read them, over all endpoints.
    /// The overhead of queueing a reply counts too. This limit bounds the memory that slow peers
    /// hold.
    ///
    /// A peer gets no more once it holds as much as is still free. So a peer that never reads holds
    /// half of the limit. Further replies to it are dropped, and their calls end at their
    /// deadlines.
    ///
    /// The items of streams have as much again. A function that returns them waits once its peer
    /// holds a quarter of what is still free.
    ///
    /// The default is 256 MiB, which is sixteen replies of the largest size. There is always
    /// capacity for two of them.
    max_unread_bytes: usize,

    /// Sets the ZeroMQ implementation for `tcp://` and `ipc://`. The default is [`Engine::Zeromq`].
    /// A client may use another implementation than its server.
    engine: Engine,

    /// Sets the permission bits of the socket files of `ipc://`, such as `0o660` to let the group of
    /// the file connect.
    ///
    /// The default is `0o600`: only programs of the same user connect. A file has these bits before
    /// it gets its name. Names in the abstract namespace (`ipc://@name`) have no permissions.
    ipc_mode: u32,

    /// Sets the time for which the server caches the reply to a call with an idempotency key. The
    /// time starts when the function ends.
    ///
    /// The server answers another request with that key from the cache, and does not run the
    /// function again. Expired replies are dropped when the next call with a key arrives.
    ///
    /// The default is 10 minutes. A retry arrives within the deadline of its call, which is rarely
    /// longer.
    remember_replies_for: Duration,

    /// Sets the number of calls with an idempotency key that the server keeps, including those
    /// whose function has not ended. It keeps at least one.
    ///
    /// A further call replaces the oldest reply. If none of the calls has ended yet, the server
    /// refuses the further call with [`Overloaded`](crate::ErrorKind::Overloaded).
    ///
    /// The default is 16,384, which is also the default of [`max_in_flight`](Self::max_in_flight).
    max_remembered_replies: usize,

    /// Sets the number of bytes that the cached replies to calls with an idempotency key may have
    /// together. Beyond it, the oldest replies are dropped. A reply of the largest size always
    /// fits.
    ///
    /// The default is 64 MiB, which is four replies of the largest size.
    max_remembered_bytes: usize,

    /// Sets the time for which a server that shuts down waits for the functions in flight.
    ///
    /// The server then gives them up, and answers their callers with
    /// [`ShuttingDown`](crate::ErrorKind::ShuttingDown). Clients retry idempotent calls on another
    /// server.
    ///
    /// The default is 8 s, because `docker stop` kills a process after 10 s. Other supervisors wait
    /// longer.
    drain_timeout: Duration,

    /// Sets the bytes of items of an [`Incoming`](crate::Incoming) stream that may be on their way
    /// or wait for the function, at least 1. One item may exceed it.
    ///
    /// The default is 256 KiB. A stream begins with 16 KiB, and its window grows while the function
    /// waits for its caller. A call with such a stream counts with its whole window against
    /// [`max_bytes_in_flight`](Self::max_bytes_in_flight), and the window is an eighth of that at
    /// most.
    stream_window: u64,

    /// Sets the longest time for which a caller may send nothing of an
    /// [`Incoming`](crate::Incoming) stream, while its function waits.
    ///
    /// The default is 30 s, as for the stream that a client waits for. `Duration::MAX` is no limit.
    stream_idle_timeout: Duration,
} }

impl ServerBuilder {
    /// Gives the server the value for `#[state]` parameters of type `&T` or `Arc<T>`.
    ///
    /// There is one value for each type: a second one replaces the first. To keep using the value
    /// in the rest of the program, see [`shared_state`](Self::shared_state).
    #[must_use]
    pub fn state<T: Any + Send + Sync>(self, state: T) -> Self {
        self.shared_state(Arc::new(state))
    }

    /// Gives the server a value for `#[state]` parameters, like [`state`](Self::state). The program
    /// can keep a clone of the `Arc` and use the same value.
    #[must_use]
    pub fn shared_state<T: Any + Send + Sync>(mut self, state: Arc<T>) -> Self {
        self.states.insert(TypeId::of::<T>(), Arc::new(state));
        self
    }

    /// Adds code that runs around every call. See [`ServerHook`].
    #[must_use]
    pub fn hook(mut self, hook: impl ServerHook) -> Self {
        self.config.hooks.add(hook);
        self
    }

    /// Adds the function `F` to the functions that the server offers.
    ///
    /// Without a call of this method, the server offers every function that is linked into the
    /// program. With one call or more, it offers only the functions that were added.
    ///
    /// ```
    /// use rpc_core::{Server, remote};
    ///
    /// #[remote(inline)]
    /// fn add(a: i64, b: i64) -> i64 {
    ///     a + b
    /// }
    ///
    /// let builder = Server::builder().serve::<add>();
    /// ```
    #[must_use]
    pub fn serve<F: ServedFn>(mut self) -> Self {
        self.served.get_or_insert_default().push(F::ENTRY);
        self
    }

    /// Binds a server to `endpoints`, which is one endpoint, or an array, a slice or a `Vec` of
    /// them.
    ///
    /// | Endpoint          | Clients                                       |
    /// |-------------------|-----------------------------------------------|
    /// | `tcp://host:port` | on any machine, over TCP                      |
    /// | `ipc:///path`     | on this machine, through a Unix domain socket |
    /// | `inproc://name`   | in this process                               |
    /// | `amqp://host`     | of a queue of a RabbitMQ broker (feature `amqp`) |
    ///
    /// The host `*` means every interface, with IPv6 and IPv4. [`Server::endpoint`] then returns
    /// `0.0.0.0`, with which clients on this machine can connect. A host name means all of its
    /// addresses that this machine has. The port `0` means a free port, the same on all addresses,
    /// which [`Server::endpoint`] returns. [`Endpoints`] has all forms.
    ///
    /// # Errors
    /// Returns a [`ServeError`] if:
    ///
    /// - an endpoint is malformed, or the server cannot listen on it;
    /// - two of the functions have the same name;
    /// - a function has a `#[state]` parameter that the server was not given;
    /// - there is no function to serve;
    /// - encryption is [set up](ServeError::Curve) in a way that would not protect anything;
    /// - there is no tokio runtime, which async functions need;
    /// - the I/O thread cannot be started.
    pub async fn bind(self, endpoints: impl Endpoints) -> Result<Server, ServeError> {
        if cfg!(panic = "abort") {
            tracing::warn!(
                "this program is built with `panic = \"abort\"`: the first panic of a remote \
                 function will end it"
            );
        }
        let Self { states, served, config } = self;
        let runtime = Handle::try_current().map_err(|_| ServeError::NoRuntime)?;
        let registry = match served {
            Some(entries) => Registry::new(entries, &states)?,
            None => Registry::new(Registry::linked(), &states)?,
        };
        let endpoints = parse(endpoints)?;
        let transport = config.transport()?;
        let io = IoThread::start("rpc-server-io").map_err(ServeError::Thread)?;
        let workload =
            Workload { max_requests: config.max_requests(), longest_call: registry.longest_call() };
        let (options, ipc_mode) = (transport.clone(), config.ipc_mode);
        let bound =
            io.run(async move { open::listen(endpoints, &options, ipc_mode, workload).await });
        let (listeners, endpoints) = bound.await.map_err(|(endpoint, source)| {
            ServeError::Bind { endpoint: endpoint.to_string(), source }
        })?;
        if !transport.encrypts() {
            exposure::warn(&endpoints, config.engine);
        }
        let (gate, hooks) = (config.gate.clone(), hooks(&config));
        let service = Arc::new(Service::new(registry, gate, hooks, config.service_limits()));
        let registrations = Vec::new();
        Ok(Server { service, listeners, endpoints, config, registrations, runtime, io })
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(type_name::<Self>()).field("config", &self.config).finish_non_exhaustive()
    }
}

/// Returns the hooks of a server, of which the first one makes the metrics.
fn hooks(config: &ServerConfig) -> Option<Arc<Hooks>> {
    #[allow(unused_mut)] // Only with the feature.
    let mut hooks = config.hooks.clone();
    #[cfg(feature = "metrics")]
    hooks.add_first(CallMetrics::new());
    hooks.into_shared()
}

fn parse(endpoints: impl Endpoints) -> Result<Vec<Endpoint>, ServeError> {
    let texts = endpoints.into_texts();
    if texts.is_empty() {
        let reason = "no endpoint was given".to_owned();
        return Err(ServeError::InvalidEndpoint { endpoint: String::new(), reason });
    }
    let parse = |text: String| {
        Endpoint::to_bind(&text)
            .map_err(|reason| ServeError::InvalidEndpoint { endpoint: redacted(&text), reason })
    };
    texts.into_iter().map(parse).collect()
}
