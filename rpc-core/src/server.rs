//! The server: serves, drains, stops.

pub(crate) mod admission;
mod builder;
pub(crate) mod builtin;
pub(crate) mod completion;
mod config;
mod dispatch;
mod egress;
mod error;
mod event_loop;
pub(crate) mod executor;
mod idempotency;
pub(crate) mod invoke;
pub(crate) mod registry;
mod reply_cache;
pub(crate) mod requests;
mod service;
mod sessions;
pub(crate) mod workers;

use std::{fmt, future::Future, sync::Arc};

use tokio::{runtime::Handle, sync::watch, task::JoinSet, time};

use self::{
    completion::CompletionQueue,
    config::ServerConfig,
    dispatch::Dispatcher,
    egress::Egress,
    event_loop::{EventLoop, Lifecycle},
    executor::Executor,
    service::Service,
    workers::Workers,
};
use crate::{function::Signature, transport::Listener, util::io_thread::IoThread};

pub use self::{builder::ServerBuilder, error::ServeError};

/// A server that is bound and does not serve yet: clients can connect, and what they send waits.
///
/// Sync functions run on its worker threads, async functions on the tokio runtime that it was bound
/// in, inline functions on its I/O thread. Begin with [`bind`](Self::bind), or with
/// [`builder`](Self::builder) to set options; go on with [`serve_until`](Self::serve_until) or
/// [`spawn`](Self::spawn).
pub struct Server {
    service: Arc<Service>,
    listeners: Vec<Box<dyn Listener>>,
    endpoints: Vec<String>,
    config: ServerConfig,
    runtime: Handle,
    /// Last, so that what the listeners leave behind is sent.
    io: IoThread,
}

impl Server {
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
        let Self { service, listeners, endpoints, config, runtime, io } = self;
        let threads = config.workers.max(1);
        let workers = Workers::start(threads, config.max_waiting).map_err(ServeError::Thread)?;
        let workers = Arc::new(workers);
        let unread = egress::limit(config.max_unread_bytes, config.max_message_size);
        let (lifecycle, _) = watch::channel(Lifecycle::Serving);
        let mut loops = Loops(JoinSet::new());
        for listener in listeners {
            let completions = CompletionQueue::default();
            let executor =
                Executor::new(Arc::clone(&workers), runtime.clone(), completions.clone());
            let dispatcher = Dispatcher::new(Arc::clone(&service), executor);
            let egress = Egress::new(Arc::clone(&unread));
            let lifecycle = lifecycle.subscribe();
            let event_loop = EventLoop::new(listener, dispatcher, completions, egress, lifecycle);
            loops.0.spawn_on(event_loop.run(), io.handle());
        }
        let signatures = service.registry.signatures();
        let functions: Vec<_> = signatures.iter().map(|signature| signature.name).collect();
        tracing::info!(?endpoints, ?functions, workers = threads, "serving");
        Ok(ServerHandle { service, endpoints, lifecycle, loops, config, io })
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
    lifecycle: watch::Sender<Lifecycle>,
    loops: Loops,
    config: ServerConfig,
    io: IoThread,
}

/// The loops of the listeners. When they are dropped with the handle they are not cut off: they see
/// that `lifecycle` has gone, give up what runs, answer, and end.
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
        self.lifecycle.send_replace(Lifecycle::Draining);
        let all_ended = async { while self.loops.0.join_next().await.is_some() {} };
        if time::timeout(self.config.drain_timeout, all_ended).await.is_err() {
            self.lifecycle.send_replace(Lifecycle::Stopped);
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
