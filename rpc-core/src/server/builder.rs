//! The options of a server, and binding.

use std::{
    any::{Any, TypeId, type_name},
    fmt,
    sync::Arc,
    time::Duration,
};

use tokio::runtime::Handle;

use crate::{
    endpoint::{Endpoint, Endpoints},
    engine::Engine,
    handler::{Entry, ServedFn},
    server::{
        Server,
        config::ServerConfig,
        error::ServeError,
        registry::{Registry, States},
        service::Service,
    },
    transport::{TransportConfig, open},
    util::{io_thread::IoThread, setters::setters},
};

/// The options of a [`Server`]. Begin with [`Server::builder`].
pub struct ServerBuilder {
    states: States,
    /// `None` stands for all functions that are linked.
    served: Option<Vec<&'static Entry>>,
    config: ServerConfig,
}

impl Server {
    /// Sets options before binding.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder { states: States::new(), served: None, config: ServerConfig::default() }
    }

    /// Listens on one endpoint or several, and serves every `#[remote]` function with a body that is
    /// linked into this program, including those of the crates that it depends on. A crate that is
    /// depended on but never named is not linked: write `use that_crate as _;`. See
    /// [`ServerBuilder::bind`].
    ///
    /// # Errors
    /// See [`ServerBuilder::bind`].
    pub async fn bind(endpoints: impl Endpoints) -> Result<Self, ServeError> {
        Self::builder().bind(endpoints).await
    }
}

setters! { ServerBuilder {
    /// Sets the number of threads that run sync functions; at least one. The default is one for each
    /// core, for functions that compute. Functions that block need more.
    workers: usize,

    /// Sets the number of requests that may be under way at once, waiting or running, over all
    /// endpoints. One more is answered `overloaded`. Inline functions do not count.
    ///
    /// A sixteenth is a reserve. A peer (a client, or the proxy before several) gets more of the reserve
    /// only while it has no more requests than are free. So there is room for a peer that has few,
    /// however greedy the others are. The default is 16,384: a request holds its message and little
    /// else.
    max_in_flight: usize,

    /// Sets the number of bytes that the requests under way may have. One more request is answered
    /// `overloaded`. The bytes are shared among peers as [`max_in_flight`](Self::max_in_flight) is. The
    /// default is 256 MiB, which is sixteen of the largest requests. One request of the largest size
    /// always fits.
    max_bytes_in_flight: usize,

    /// Sets the number of requests that may wait for a worker. One more is answered `overloaded`.
    ///
    /// Each peer has a line of its own, and the workers serve the lines in turn. A sixteenth is a
    /// reserve for peers with short lines. The default is 8,192: at ten thousand calls a second, less
    /// than a second's work. With a very small limit, a request can be refused because a worker that has
    /// just answered is not back yet.
    max_waiting: usize,

    /// Sets the longest request that is accepted and the longest reply that is sent, in bytes. The
    /// default is 16 MiB: far more than most calls need, and small enough that a hundred of them fit
    /// into a machine.
    max_message_size: usize,

    /// Sets the number of bytes of replies, with the overhead of queueing them, that may wait for peers
    /// to read them, over all endpoints. This bounds the memory that slow peers hold.
    ///
    /// One peer gets no more once it has as much as is still free, so that a peer that never reads holds
    /// half. Further replies are dropped, and their calls end at their deadlines. The default is
    /// 256 MiB, which is sixteen of the largest replies. Two replies of the largest size always fit.
    max_unread_bytes: usize,

    /// Sets the ZeroMQ implementation for `tcp://` and `ipc://`. The default is [`Engine::Zeromq`].
    /// Clients may use another one.
    engine: Engine,

    /// Sets the time for which the reply to a call with an idempotency key is kept, from the end of its
    /// function. Another request with that key is answered with that reply, and nothing runs again. The
    /// default is 10 minutes: a retry comes within its call's deadline, which is rarely longer. Expired
    /// replies are dropped when the next call with a key comes.
    remember_replies_for: Duration,

    /// Sets the number of calls with an idempotency key that are kept, including those that still run;
    /// at least one. When there are more, the oldest reply is dropped; if all still run, one more call
    /// is answered `overloaded`. The default is 16,384, as many as may be in flight.
    max_remembered_replies: usize,

    /// Sets the number of bytes that the kept replies may have together. Beyond it, the oldest replies
    /// are dropped. The default is 64 MiB, which is four of the largest replies. One reply of the
    /// largest size always fits.
    max_remembered_bytes: usize,

    /// Sets the time for which a server that shuts down waits for functions that run. It then gives them
    /// up and answers `shutting_down`, and clients make idempotent calls again elsewhere. The default is
    /// 10 s, which is less than most supervisors wait before they kill a process.
    drain_timeout: Duration,
} }

impl ServerBuilder {
    /// Gives the server a value for `#[state]` parameters of type `&T` or `Arc<T>`. There is one value
    /// per type: a second one replaces the first. To share one with the rest of the program, see
    /// [`shared_state`](Self::shared_state).
    #[must_use]
    pub fn state<T: Any + Send + Sync>(self, state: T) -> Self {
        self.shared_state(Arc::new(state))
    }

    /// Gives the server a value, as [`state`](Self::state) does, that the program keeps using.
    #[must_use]
    pub fn shared_state<T: Any + Send + Sync>(mut self, state: Arc<T>) -> Self {
        self.states.insert(TypeId::of::<T>(), Arc::new(state));
        self
    }

    /// Serves the function `F`, and only the functions that are chosen in this way. Without it, the
    /// server serves all that are linked.
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

    /// Listens on `endpoints`: one, or an array, slice or `Vec` of them. An endpoint is
    /// `tcp://host:port`, where the host may be `*` and the port `0` for a free one; `ipc:///path`; or
    /// `inproc://name`.
    ///
    /// # Errors
    /// [`ServeError`]: an endpoint that is malformed or taken, two served functions with one name, a
    /// missing `#[state]`, nothing to serve, or no tokio runtime to run async functions on.
    pub async fn bind(self, endpoints: impl Endpoints) -> Result<Server, ServeError> {
        let Self { states, served, config } = self;
        let runtime = Handle::try_current().map_err(|_| ServeError::NoRuntime)?;
        let registry = match served {
            Some(entries) => Registry::new(entries, &states)?,
            None => Registry::new(Registry::linked(), &states)?,
        };
        let endpoints = parse(endpoints)?;
        let ServerConfig { engine, max_message_size, .. } = config;
        let io = IoThread::start("rpc-server-io").map_err(ServeError::Thread)?;
        let bound = io.run(open::listen(endpoints, TransportConfig { engine, max_message_size }));
        let (listeners, endpoints) = bound.await.map_err(|(endpoint, source)| {
            ServeError::Bind { endpoint: endpoint.to_string(), source }
        })?;
        let service = Arc::new(Service::new(registry, config.service_limits()));
        Ok(Server { service, listeners, endpoints, config, runtime, io })
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(type_name::<Self>()).field("config", &self.config).finish_non_exhaustive()
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
