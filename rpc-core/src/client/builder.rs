//! A client's options, and connecting.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use crate::{
    client::{
        Client, Inner, blocking,
        channel::{self, Channel, EndCalls},
        deadline_in,
        room::{Room, WhenFull},
    },
    endpoint::{Endpoint, Endpoints},
    engine::Engine,
    error::{ErrorKind, Ran, RpcError},
    io_thread::IoThread,
    message::DEFAULT_MAX_MESSAGE_SIZE,
    transport::Carrier,
};

// The reasons for these numbers are told where users set them.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_MAX_SILENCE: Duration = Duration::from_secs(5);
const SHORTEST_SILENCE: Duration = Duration::from_millis(20);
const DEFAULT_MAX_IN_FLIGHT: usize = 65_536;
const DEFAULT_MAX_BYTES_IN_FLIGHT: usize = 256 * 1024 * 1024;

/// The options of a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    timeout: Duration,
    connect_timeout: Duration,
    retries: u32,
    fail_fast: bool,
    max_silence: Duration,
    max_in_flight: usize,
    max_bytes_in_flight: usize,
    when_full: WhenFull,
    max_message_size: usize,
    engine: Engine,
    current_runtime: bool,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            retries: u32::MAX,
            fail_fast: false,
            max_silence: DEFAULT_MAX_SILENCE,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            max_bytes_in_flight: DEFAULT_MAX_BYTES_IN_FLIGHT,
            when_full: WhenFull::Wait,
            max_message_size: DEFAULT_MAX_MESSAGE_SIZE,
            engine: Engine::default(),
            current_runtime: false,
        }
    }
}

impl ClientBuilder {
    /// How long a call may take, where neither it nor its function says. 30 s unless set: what
    /// users of other frameworks expect, and long enough for a function that works.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long [`connect`](Self::connect) waits for a server to answer. 5 s unless set: long
    /// enough for one that is just starting.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How often a call may be tried again, where neither it nor its function says. As often as its
    /// deadline allows unless set: pauses that grow to a second, and a budget for all calls of the
    /// client, keep retries from becoming a storm. See [`Call::retries`](crate::Call::retries).
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Calls end at once as [`Disconnected`](ErrorKind::Disconnected) while there is no connection,
    /// instead of waiting for one within their deadline. See
    /// [`Call::fail_fast`](crate::Call::fail_fast).
    #[must_use]
    pub fn fail_fast(mut self) -> Self {
        self.fail_fast = true;
        self
    }

    /// How long a server that owes replies may be silent before its connection counts as lost. It
    /// is pinged in the meantime, and answers that from its I/O thread however busy it is, so what
    /// is found out is that it is frozen, dead or cut off. It is noticed up to a quarter later. 5 s
    /// unless set: far longer than any pause of a healthy process or network, far shorter than the
    /// default timeout of a call. At least 20 ms. A message is a sign of life when all of it has
    /// come: where one takes longer over the network, set it longer.
    #[must_use]
    pub fn max_silence(mut self, silence: Duration) -> Self {
        self.max_silence = silence.max(SHORTEST_SILENCE);
        self
    }

    /// How many calls may be in flight at once, from being made until their outcome is taken.
    /// 65,536 unless set: more than a server admits by default, at a few hundred bytes each. See
    /// [`when_full`](Self::when_full).
    #[must_use]
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// How many bytes the requests that wait for their replies, and the replies that were not taken
    /// yet, may have together. A call that is larger goes when nothing else is in flight. 256 MiB
    /// unless set: sixteen messages of the greatest size, and little enough for most machines. See
    /// [`when_full`](Self::when_full).
    #[must_use]
    pub fn max_bytes_in_flight(mut self, bytes: usize) -> Self {
        self.max_bytes_in_flight = bytes;
        self
    }

    /// What happens to a call when as much is in flight as may be. It waits within its deadline
    /// unless set: that slows a program down which is faster than its servers, instead of failing
    /// it.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// The longest request that is sent and the longest reply that is accepted, in bytes; the
    /// server's limit for requests holds as well. 16 MiB unless set: far more than a call needs,
    /// and a hundred of them fit into a machine.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// The ZeroMQ implementation for `tcp://` and `ipc://`. [`Engine::Zeromq`] unless set. The
    /// server may use another.
    #[must_use]
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Runs the connections on the tokio runtime that `connect` is called in, instead of the I/O
    /// thread that the process's clients share. On a current-thread runtime this saves a hop
    /// between threads for each call and each reply. On a multi-thread runtime it is slower under
    /// load. The runtime must have its I/O and time drivers enabled. When it ends, so does the
    /// client; while nobody runs it, deadlines are not kept.
    #[must_use]
    pub fn use_current_runtime(mut self) -> Self {
        self.current_runtime = true;
        self
    }

    /// Connects to one endpoint or several, and waits until one has answered; the others are
    /// connected in the background. A server that is not there yet is waited for.
    ///
    /// # Errors
    /// [`InvalidEndpoint`](ErrorKind::InvalidEndpoint) at once;
    /// [`Disconnected`](ErrorKind::Disconnected) when the connect timeout has passed, with the
    /// reason why the last attempts failed.
    pub fn connect(self, endpoints: impl Endpoints) -> Connect {
        let timeout = self.connect_timeout;
        let by = deadline_in(Instant::now(), timeout);
        let client = self.start(endpoints, Some(by));
        let connecting = async move {
            let client = client?;
            let channel = client.channel();
            let Err(cause) = channel.first().await else { return Ok(client) };
            let message = format!("no server answered within {timeout:?}");
            let error =
                RpcError::new(ErrorKind::Disconnected, Ran::No, message).with_source(&*cause);
            Err(error.at(&channel.endpoints().join(", ").into()))
        };
        Connect { connecting: Box::pin(connecting), by }
    }

    /// Connects in the background: calls made meanwhile wait for a connection, within their
    /// deadline.
    ///
    /// # Errors
    /// [`InvalidEndpoint`](ErrorKind::InvalidEndpoint), or if the I/O thread cannot be started.
    ///
    /// # Panics
    /// With [`use_current_runtime`](Self::use_current_runtime), outside a tokio runtime.
    pub fn connect_lazy(self, endpoints: impl Endpoints) -> Result<Client, RpcError> {
        self.start(endpoints, None)
    }

    fn start(
        self,
        endpoints: impl Endpoints,
        connect_by: Option<Instant>,
    ) -> Result<Client, RpcError> {
        let (names, endpoints) = parse(endpoints)?;
        let room = Room::new(self.max_in_flight, self.max_bytes_in_flight, self.when_full);
        let carrier = Carrier { engine: self.engine, max_message_size: self.max_message_size };
        let channel = Channel::new(names, room, carrier, self.max_silence);
        let task = channel::run(EndCalls(Arc::clone(&channel)), endpoints, connect_by);
        let io = if self.current_runtime {
            Handle::current().spawn(task);
            None
        } else {
            let io = IoThread::shared().map_err(|cause| {
                let message = "cannot start the I/O thread";
                RpcError::new(ErrorKind::Disconnected, Ran::No, message).with_source(cause)
            })?;
            io.handle().spawn(task);
            Some(io)
        };
        let Self { timeout, retries, fail_fast, .. } = self;
        Ok(Client(Arc::new(Inner { channel, timeout, retries, fail_fast, _io: io })))
    }
}

fn parse(endpoints: impl Endpoints) -> Result<(Vec<Arc<str>>, Vec<Endpoint>), RpcError> {
    let texts: Vec<Arc<str>> = endpoints.into_texts().into_iter().map(Arc::from).collect();
    let invalid = |text: &Arc<str>, reason: &str| {
        RpcError::new(ErrorKind::InvalidEndpoint, Ran::No, reason).at(text)
    };
    if texts.is_empty() {
        return Err(invalid(&Arc::from(""), "no endpoint was given"));
    }
    let parse =
        |text: &Arc<str>| Endpoint::to_connect(text).map_err(|reason| invalid(text, &reason));
    let endpoints = texts.iter().map(parse).collect::<Result<_, _>>()?;
    Ok((texts, endpoints))
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
