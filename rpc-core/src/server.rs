//! The server: binds, serves, drains.

pub(crate) mod admission;
pub(crate) mod builtin;
mod dispatch;
mod greeted;
pub(crate) mod in_flight;
mod io;
pub(crate) mod outbox;
pub(crate) mod pool;
mod reply_memory;
pub(crate) mod run;
mod unread;

use std::{
    any::{Any, TypeId, type_name},
    fmt,
    future::Future,
    hash::{BuildHasher, RandomState},
    num::NonZero,
    sync::{Arc, Mutex, atomic::AtomicBool, atomic::Ordering},
    thread,
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch, task::JoinSet, time};

use self::{
    admission::Admission,
    dispatch::{Dispatcher, Service},
    io::Phase,
    outbox::Outbox,
    pool::Pool,
    reply_memory::{Limits, ReplyMemory},
    run::Runner,
    unread::Unread,
};
use crate::{
    endpoint::{Endpoint, Endpoints},
    engine::Engine,
    error::ServeError,
    function::{Entry, ServedFn, Signature},
    io_thread::IoThread,
    message::{DEFAULT_MAX_MESSAGE_SIZE, MAX_KEY_LEN},
    registry::{Registry, States},
    transport::{Carrier, Listener},
};

/// How many requests may be under way at once: a request holds its message and little else, so this
/// is what a server of small messages takes easily.
const DEFAULT_MAX_IN_FLIGHT: usize = 16_384;
/// How many bytes they may have: sixteen of the largest messages, and of small ones what all that
/// may be under way have together, if they have 16 KiB each.
const DEFAULT_MAX_BYTES_IN_FLIGHT: usize = 256 * 1024 * 1024;
/// How many of them may wait for a worker: at ten thousand calls a second, less than a second's
/// work.
const DEFAULT_MAX_WAITING: usize = 8_192;
/// How much may be unread, in bytes: sixteen of the largest messages. One peer can have half of it.
const DEFAULT_MAX_UNREAD_BYTES: usize = 256 * 1024 * 1024;
/// Which replies to calls with an idempotency key are remembered. A retry comes within its call's
/// deadline, which is rarely longer than minutes; as many calls as may be under way; and four of
/// the largest replies.
const DEFAULT_REMEMBERED: Limits = Limits {
    time: Duration::from_secs(600),
    calls: DEFAULT_MAX_IN_FLIGHT,
    bytes: 64 * 1024 * 1024,
};
/// How long draining may take: less than what most supervisors wait before they kill.
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that is bound and does not serve yet: clients can connect, and what they send waits.
///
/// Sync functions run on its worker threads, async functions on the tokio runtime that it was bound
/// in, inline functions on its I/O thread. Begin with [`bind`](Self::bind), or with
/// [`builder`](Self::builder) to set options; go on with [`serve_until`](Self::serve_until) or
/// [`spawn`](Self::spawn).
pub struct Server {
    service: Arc<Service>,
    listeners: Vec<Listener>,
    endpoints: Vec<String>,
    options: Options,
    runtime: Handle,
    /// Last, so that what the listeners leave behind is sent.
    io: IoThread,
}

impl Server {
    /// Listens on one endpoint or several, and serves every `#[remote]` function with a body that
    /// is linked into this program, the crates it depends on included. A crate that is depended on
    /// but never named is not linked: write `use that_crate as _;`. See [`ServerBuilder::bind`].
    ///
    /// # Errors
    /// See [`ServerBuilder::bind`].
    pub async fn bind(endpoints: impl Endpoints) -> Result<Self, ServeError> {
        Self::builder().bind(endpoints).await
    }

    /// Sets options before binding.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Where the server listens: the first endpoint, with the real port if `0` was asked for.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoints[0]
    }

    /// Where the server listens, in the order that was asked for.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The functions that are served, by name.
    #[must_use]
    pub fn functions(&self) -> Vec<&'static Signature> {
        self.service.registry.signatures()
    }

    /// Serves until `stop` is ready, then drains: takes no new peers, refuses new requests as
    /// `shutting_down` (which never started, and may safely be made elsewhere), waits for those
    /// that run, up to the drain timeout, and sends their replies. Clients of this library are
    /// told, and leave; until they have, or a second has passed since the last function ended, what
    /// they still send is answered.
    ///
    /// ```no_run
    /// use rpc_core::Server;
    /// use tokio::signal::unix::{SignalKind, signal};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::bind("tcp://*:5555").await?;
    /// println!("listening on {}", server.endpoint());
    /// // What a supervisor sends to stop a process, and what a terminal sends.
    /// let mut terminate = signal(SignalKind::terminate())?;
    /// let stop = async move {
    ///     tokio::select! {
    ///         _ = terminate.recv() => {}
    ///         _ = tokio::signal::ctrl_c() => {}
    ///     }
    /// };
    /// server.serve_until(stop).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancellation
    /// If it is dropped, what runs is given up.
    ///
    /// # Errors
    /// [`ServeError::Thread`] if the workers cannot be started.
    pub async fn serve_until(self, stop: impl Future) -> Result<(), ServeError> {
        let running = self.spawn()?;
        stop.await;
        running.shutdown().await;
        Ok(())
    }

    /// Serves in the background.
    ///
    /// # Errors
    /// [`ServeError::Thread`] if the workers cannot be started.
    pub fn spawn(self) -> Result<ServerHandle, ServeError> {
        let Self { service, listeners, endpoints, options, runtime, io } = self;
        let pool = Pool::start(options.workers, options.max_waiting).map_err(ServeError::Thread)?;
        let pool = Arc::new(pool);
        let unread = unread::total(options.max_unread_bytes, service.max_message_size);
        let (phase, _) = watch::channel(Phase::Serving);
        let mut loops = Loops(JoinSet::new());
        for listener in listeners {
            let outbox = Outbox::default();
            let runner = Runner::new(Arc::clone(&pool), runtime.clone(), outbox.clone());
            let unread = Unread::new(&unread);
            let dispatcher = Dispatcher::new(Arc::clone(&service), runner);
            loops.0.spawn_on(
                io::serve(listener, dispatcher, outbox, unread, phase.subscribe()),
                io.handle(),
            );
        }
        let functions: Vec<_> =
            service.registry.signatures().iter().map(|signature| signature.name).collect();
        tracing::info!(?endpoints, ?functions, workers = options.workers, "serving");
        let drain_timeout = options.drain_timeout;
        Ok(ServerHandle { service, endpoints, phase, loops, drain_timeout, io })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

/// A server that serves in the background. Dropping it stops the server at once, and gives up what
/// runs; [`shutdown`](Self::shutdown) drains.
#[must_use = "dropping it stops the server"]
pub struct ServerHandle {
    service: Arc<Service>,
    endpoints: Vec<String>,
    phase: watch::Sender<Phase>,
    loops: Loops,
    drain_timeout: Duration,
    io: IoThread,
}

/// The loops of the listeners. When they are dropped with the handle they are not cut off: they see
/// that `phase` has gone, give up what runs, answer, and end.
struct Loops(JoinSet<()>);

impl Drop for Loops {
    fn drop(&mut self) {
        self.0.detach_all();
    }
}

impl ServerHandle {
    /// See [`Server::endpoint`].
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoints[0]
    }

    /// See [`Server::endpoints`].
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// See [`Server::functions`].
    #[must_use]
    pub fn functions(&self) -> Vec<&'static Signature> {
        self.service.registry.signatures()
    }

    /// Drains and stops. See [`Server::serve_until`].
    pub async fn shutdown(mut self) {
        self.service.draining.store(true, Ordering::Relaxed);
        self.phase.send_replace(Phase::Draining);
        let all_ended = async { while self.loops.0.join_next().await.is_some() {} };
        if time::timeout(self.drain_timeout, all_ended).await.is_err() {
            self.phase.send_replace(Phase::Stopped);
            while self.loops.0.join_next().await.is_some() {}
        }
        self.io.finish().await;
        tracing::info!(endpoints = ?self.endpoints, "stopped");
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

/// The options of a [`Server`].
pub struct ServerBuilder {
    states: States,
    /// `None` stands for all that are linked.
    served: Option<Vec<&'static Entry>>,
    options: Options,
    max_in_flight: usize,
    max_bytes_in_flight: usize,
    remembered: Limits,
    max_message_size: usize,
    engine: Engine,
}

#[derive(Debug, Clone)]
struct Options {
    workers: usize,
    max_waiting: usize,
    max_unread_bytes: usize,
    drain_timeout: Duration,
}

impl Default for ServerBuilder {
    fn default() -> Self {
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            states: States::new(),
            served: None,
            options: Options {
                workers,
                max_waiting: DEFAULT_MAX_WAITING,
                max_unread_bytes: DEFAULT_MAX_UNREAD_BYTES,
                drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            },
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            max_bytes_in_flight: DEFAULT_MAX_BYTES_IN_FLIGHT,
            remembered: DEFAULT_REMEMBERED,
            max_message_size: DEFAULT_MAX_MESSAGE_SIZE,
            engine: Engine::default(),
        }
    }
}

impl ServerBuilder {
    /// Gives the server a value that `#[state]` parameters of type `&T` or `Arc<T>` refer to. One
    /// value per type: a second one replaces the first. To share one with the rest of the program,
    /// see [`shared_state`](Self::shared_state).
    #[must_use]
    pub fn state<T: Any + Send + Sync>(self, state: T) -> Self {
        self.shared_state(Arc::new(state))
    }

    /// As [`state`](Self::state), for a value that the program keeps using.
    #[must_use]
    pub fn shared_state<T: Any + Send + Sync>(mut self, state: Arc<T>) -> Self {
        self.states.insert(TypeId::of::<T>(), Arc::new(state));
        self
    }

    /// Serves the function `F`, and only those that are named like this; without it, all that are
    /// linked.
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

    /// How many threads run sync functions; at least one. One per core unless set, for functions
    /// that compute; those that block want more.
    #[must_use]
    pub fn workers(mut self, threads: usize) -> Self {
        self.options.workers = threads.max(1);
        self
    }

    /// How many requests may be under way at once, waiting or running, over all endpoints; one more
    /// is answered `overloaded`. Inline functions do not count. A sixteenth is kept back: of it, a
    /// peer (a client, or the proxy before several) gets no more once it has as many as are still
    /// free, so that however greedy others are, there is room for who has few. 16,384 unless set: a
    /// request holds its message and little else.
    #[must_use]
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.max_in_flight = requests;
        self
    }

    /// How many bytes of requests may be under way at once; one more is answered `overloaded`. They
    /// are shared among peers as [`max_in_flight`](Self::max_in_flight) is. 256 MiB unless set,
    /// sixteen of the largest requests; at least one of them always fits.
    #[must_use]
    pub fn max_bytes_in_flight(mut self, bytes: usize) -> Self {
        self.max_bytes_in_flight = bytes;
        self
    }

    /// How many requests may wait for a worker; one more is answered `overloaded`. They wait in a
    /// line for each peer, and the workers take from each line in turn; a sixteenth is kept back
    /// for those whose lines are short. 8,192 unless set: at ten thousand calls a second, less than
    /// a second's work. With very few, a request can be refused because a worker that has just
    /// answered is not back yet.
    #[must_use]
    pub fn max_waiting(mut self, requests: usize) -> Self {
        self.options.max_waiting = requests;
        self
    }

    /// The longest request that is accepted and the longest reply that is sent, in bytes. 16 MiB
    /// unless set: far more than most calls need, and little enough that a hundred of them fit into
    /// a machine.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// How many bytes of replies, and of what it takes to queue them, may wait for peers to read
    /// them, over all endpoints: so much can peers that read slowly, or never, hold of this
    /// process's memory. One peer gets no more once it has as much as is still free, so that one
    /// that never reads holds half. Beyond it replies are dropped, and their calls end at their
    /// deadlines. 256 MiB unless set, sixteen of the largest replies; at least two of them always
    /// fit.
    #[must_use]
    pub fn max_unread_bytes(mut self, bytes: usize) -> Self {
        self.options.max_unread_bytes = bytes;
        self
    }

    /// The ZeroMQ implementation for `tcp://` and `ipc://`. [`Engine::Zeromq`] unless set. Clients
    /// may use another.
    #[must_use]
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// How long the reply to a call with an idempotency key is remembered, from when its function
    /// has ended: another request with that key is answered the same, and nothing runs again. 10
    /// minutes unless set: a retry comes within its call's deadline, which is rarely longer. Older
    /// ones go when the next call with a key comes.
    #[must_use]
    pub fn remember_replies_for(mut self, time: Duration) -> Self {
        self.remembered.time = time;
        self
    }

    /// How many calls with an idempotency key are remembered, with those that still run. When there
    /// are more, the reply that is remembered longest is forgotten; if all still run, one more is
    /// answered `overloaded`. 16,384 unless set, as many as may be in flight; at least one.
    #[must_use]
    pub fn max_remembered_replies(mut self, calls: usize) -> Self {
        self.remembered.calls = calls;
        self
    }

    /// How many bytes the remembered replies may have together; beyond it, those that are
    /// remembered longest are forgotten. 64 MiB unless set, four of the largest replies; at least
    /// one of them always fits.
    #[must_use]
    pub fn max_remembered_bytes(mut self, bytes: usize) -> Self {
        self.remembered.bytes = bytes;
        self
    }

    /// How long shutting down waits for what runs, before it is given up and answered
    /// `shutting_down` (clients make idempotent calls again elsewhere). 10 s unless set: less than
    /// most supervisors wait before they kill.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.options.drain_timeout = timeout;
        self
    }

    /// Listens on `endpoints`: one, or an array, slice or `Vec` of them. `tcp://host:port`, where
    /// the host may be `*` and the port `0` for a free one; `ipc:///path`; or `inproc://name`.
    ///
    /// # Errors
    /// [`ServeError`]: an endpoint that is malformed or taken, two served functions with one name, a missing
    /// `#[state]`, nothing to serve, or no tokio runtime to run async functions on.
    pub async fn bind(self, endpoints: impl Endpoints) -> Result<Server, ServeError> {
        let runtime = Handle::try_current().map_err(|_| ServeError::NoRuntime)?;
        let registry = match self.served {
            Some(entries) => Registry::new(entries, &self.states)?,
            None => Registry::new(Registry::linked(), &self.states)?,
        };
        let endpoints = parse(endpoints)?;
        let carrier = Carrier { engine: self.engine, max_message_size: self.max_message_size };
        let io = IoThread::start("rpc-server-io").map_err(ServeError::Thread)?;
        let bound = io.run(Listener::bind(endpoints, carrier)).await;
        let (listeners, endpoints) = bound.map_err(|(endpoint, source)| {
            let endpoint = endpoint.to_string();
            ServeError::Bind { endpoint, source }
        })?;
        // The largest reply fits, with its key.
        let bytes = self.remembered.bytes.max(self.max_message_size.saturating_add(MAX_KEY_LEN));
        let remembered = Limits { bytes, ..self.remembered };
        let service = Service {
            registry,
            admission: Admission::new(
                self.max_in_flight,
                self.max_bytes_in_flight,
                self.max_message_size,
            ),
            max_message_size: self.max_message_size,
            instance: random_name(),
            draining: AtomicBool::new(false),
            replies: Mutex::new(ReplyMemory::new(remembered)),
        };
        Ok(Server {
            service: Arc::new(service),
            listeners,
            endpoints,
            options: self.options,
            runtime,
            io,
        })
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(type_name::<Self>()).field("options", &self.options).finish_non_exhaustive()
    }
}

fn parse(endpoints: impl Endpoints) -> Result<Vec<Endpoint>, ServeError> {
    let texts = endpoints.into_texts();
    if texts.is_empty() {
        let reason = "no endpoint was given".to_owned();
        return Err(ServeError::InvalidEndpoint { endpoint: String::new(), reason });
    }
    let parse = |text: String| {
        Endpoint::to_bind(&text)
            .map_err(|reason| ServeError::InvalidEndpoint { endpoint: text, reason })
    };
    texts.into_iter().map(parse).collect()
}

/// Different for every server, without a dependency: the standard library seeds each hasher at
/// random.
fn random_name() -> String {
    let word = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", word(), word())
}
