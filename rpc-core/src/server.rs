//! The server and its lifecycle: it is bound, serves, drains and stops.

pub(crate) mod admission;
mod agreement;
mod builder;
pub(crate) mod builtin;
pub(crate) mod completion;
mod config;
#[cfg(feature = "curve")]
mod curve;
mod dispatch;
mod egress;
mod error;
mod error_log;
mod event_loop;
pub(crate) mod executor;
mod exposure;
mod gate;
pub(crate) mod hooks;
mod idempotency;
pub(crate) mod invoke;
#[cfg(feature = "metrics")]
mod metrics;
mod quota;
mod registration;
pub(crate) mod registry;
mod reply_cache;
pub(crate) mod requests;
mod service;
mod sessions;
mod watched_call;
mod windows;
pub(crate) mod workers;

use std::{fmt, future::Future, sync::Arc};

use tokio::{runtime::Handle, sync::watch, task::JoinSet, time};

use self::{
    completion::CompletionQueue,
    config::ServerConfig,
    dispatch::Dispatcher,
    event_loop::{EventLoop, Lifecycle},
    executor::Executor,
    registration::{Pending, Registrations, pending},
    service::Service,
    workers::Workers,
};
use crate::{function::Signature, transport::Listener, util::io_thread::IoThread};

pub use self::{
    builder::ServerBuilder,
    error::{MissingState, ServeError},
    hooks::{CallEnd, Refusal, RefusedRequest, ServedCall, ServerHook},
    registration::{Registration, Withdrawal},
};

/// A server that is bound to its endpoints and does not serve yet.
///
/// 1. [`bind`](Self::bind) makes a server with the default options, [`builder`](Self::builder) one
///    with other options. From then on, clients can connect. Their requests wait.
/// 2. [`serve_until`](Self::serve_until) serves them until a future completes, and then shuts down.
///    [`spawn`](Self::spawn) serves them in the background, and returns a [`ServerHandle`].
///
/// The kind of a function decides where it runs:
///
/// - A sync function runs on a worker thread of the server. It may compute or block. See
///   [`ServerBuilder::workers`].
/// - An async function runs on the tokio runtime in which the server was bound.
/// - An inline function, `#[remote(inline)]`, runs on the I/O thread of the server.
pub struct Server {
    service: Arc<Service>,
    listeners: Vec<Box<dyn Listener>>,
    endpoints: Vec<String>,
    config: ServerConfig,
    registrations: Vec<Pending>,
    runtime: Handle,
    /// The last field, so that it is dropped last and still sends what the listeners have queued.
    io: IoThread,
}

impl Server {
    /// Returns the first endpoint that the server listens on. If the port `0` was requested, this
    /// is the endpoint with the port that the server got.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoints[0]
    }

    /// Returns all endpoints that the server listens on, in the order in which they were given. See
    /// [`endpoint`](Self::endpoint).
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Returns the signatures of the functions that the server offers, sorted by name.
    #[must_use]
    pub fn functions(&self) -> Vec<&'static Signature> {
        self.service.registry.signatures()
    }

    /// Registers the server with a name service while it serves, so that clients find it. To be
    /// called once for each name service.
    ///
    /// A server that drains withdraws itself first, and waits for that for at most one second.
    #[must_use]
    pub fn register(mut self, registration: impl Registration) -> Self {
        self.registrations.push(pending(registration));
        self
    }

    /// Serves until the future `stop` completes, and then drains and stops.
    ///
    /// While the server drains:
    ///
    /// - Name services [withdraw](Self::register) it first.
    /// - It accepts no new connections.
    /// - It tells the clients of this library to go away. Each of them disconnects once it has all
    ///   its replies.
    /// - It runs what these clients had sent before they heard that: what arrives within a second.
    /// - It refuses all other requests with [`ShuttingDown`](crate::ErrorKind::ShuttingDown). Such a
    ///   request has not started, so the client can safely send it to another server.
    /// - It waits for the functions in flight, and sends their replies. Those that have not ended
    ///   after the [drain timeout](ServerBuilder::drain_timeout) are given up.
    ///
    /// Once no function is in flight, the server still answers messages until its clients have
    /// disconnected, for at most one second. This also ends with the drain timeout.
    ///
    /// ```no_run
    /// use rpc_core::Server;
    /// use tokio::signal::unix::{SignalKind, signal};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::bind("tcp://*:5555").await?;
    /// println!("listening on {}", server.endpoint());
    /// // A supervisor sends SIGTERM to stop a process, and a terminal sends SIGINT.
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
    /// If the future is dropped, the server stops at once and gives up the functions in flight.
    ///
    /// # Errors
    /// - [`ServeError::Thread`] if a worker thread cannot be started.
    /// - [`ServeError::Failed`] if the I/O thread has panicked, which is a defect of this library.
    ///   The server has then stopped.
    pub async fn serve_until(self, stop: impl Future) -> Result<(), ServeError> {
        let mut running = self.spawn()?;
        let stopped = tokio::select! {
            _ = stop => Ok(()),
            panic = running.loops.failed() => Err(ServeError::Failed { panic }),
        };
        running.shutdown().await;
        stopped
    }

    /// Serves in the background, until the returned handle is [shut down](ServerHandle::shutdown)
    /// or dropped.
    ///
    /// # Errors
    /// Returns [`ServeError::Thread`] if a worker thread cannot be started.
    pub fn spawn(self) -> Result<ServerHandle, ServeError> {
        let Self { service, listeners, endpoints, config, registrations, runtime, io } = self;
        let size = config.pool_size();
        let workers = Workers::start(size, config.max_waiting.unwrap_or(config.max_in_flight))
            .map_err(ServeError::Thread)?;
        let workers = Arc::new(workers);
        let (lifecycle, _) = watch::channel(Lifecycle::Serving);
        let mut loops = Loops(JoinSet::new());
        for listener in listeners {
            let completions = CompletionQueue::default();
            let executor =
                Executor::new(Arc::clone(&workers), runtime.clone(), completions.clone());
            let dispatcher = Dispatcher::new(Arc::clone(&service), executor);
            let lifecycle = lifecycle.subscribe();
            let event_loop = EventLoop::new(listener, dispatcher, completions, lifecycle);
            loops.0.spawn_on(event_loop.run(), io.handle());
        }
        let signatures = service.registry.signatures();
        let functions: Vec<_> = signatures.iter().map(|signature| signature.name).collect();
        tracing::info!(?endpoints, ?functions, workers = size.threads, "serving");
        let registrations = Registrations::begin(registrations, &endpoints, &runtime);
        Ok(ServerHandle { service, endpoints, registrations, lifecycle, loops, config, io })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

/// A handle to a server that serves in the background. [`Server::spawn`] returns it.
///
/// [`shutdown`](Self::shutdown) drains the server before it stops. If the handle is dropped
/// instead, the server stops at once and gives up the functions in flight.
#[must_use = "dropping it stops the server"]
pub struct ServerHandle {
    service: Arc<Service>,
    endpoints: Vec<String>,
    registrations: Registrations,
    lifecycle: watch::Sender<Lifecycle>,
    loops: Loops,
    config: ServerConfig,
    io: IoThread,
}

/// The event loops, one for each listener.
///
/// They are detached when the handle is dropped, and not aborted. They notice that the sender of
/// `lifecycle` was dropped, give up the functions in flight, answer their callers, and end.
struct Loops(JoinSet<()>);

impl Loops {
    /// Waits until every event loop has ended.
    async fn ended(&mut self) {
        while self.0.join_next().await.is_some() {}
    }

    /// Waits until an event loop has panicked. The others go on without it, and nobody would serve
    /// its endpoints.
    async fn failed(&mut self) -> String {
        loop {
            match self.0.join_next().await {
                Some(Err(error)) => return error.to_string(),
                Some(Ok(())) => {}
                None => return std::future::pending().await,
            }
        }
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        self.0.detach_all();
    }
}

impl ServerHandle {
    /// Returns the first endpoint that the server listens on. See [`Server::endpoint`].
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoints[0]
    }

    /// Returns all endpoints that the server listens on. See [`Server::endpoints`].
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Returns the signatures of the functions that the server offers. See [`Server::functions`].
    #[must_use]
    pub fn functions(&self) -> Vec<&'static Signature> {
        self.service.registry.signatures()
    }

    /// Drains the server, and waits until it has stopped. See [`Server::serve_until`].
    ///
    /// # Cancellation
    /// If the future is dropped, the server stops at once and gives up the functions in flight.
    pub async fn shutdown(mut self) {
        self.registrations.end(self.io.handle()).await;
        self.lifecycle.send_replace(Lifecycle::Draining);
        // The timer runs on the I/O thread, because the caller may have no runtime.
        let (mut timer, drain_timeout) = (JoinSet::new(), self.config.drain_timeout);
        timer.spawn_on(async move { time::sleep(drain_timeout).await }, self.io.handle());
        tokio::select! {
            () = self.loops.ended() => {}
            _ = timer.join_next() => {
                self.lifecycle.send_replace(Lifecycle::Stopped);
                self.loops.ended().await;
            }
        }
        drop(timer);
        self.io.finish().await;
        tracing::info!(endpoints = ?self.endpoints, "stopped");
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
