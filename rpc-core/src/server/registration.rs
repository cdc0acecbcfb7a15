//! The registration of a server with name services, for as long as it serves.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{runtime::Handle, sync::watch, task::JoinSet, time};

use crate::util::panics;

/// The time for which a server that drains waits until its name services have withdrawn it. They
/// forget it later by themselves.
const WITHDRAWAL: Duration = Duration::from_secs(1);

/// The registration of a server with a name service. Pass it to
/// [`Server::register`](crate::Server::register).
///
/// The package `rpc-etcd` has one for etcd.
pub trait Registration: Send + 'static {
    /// Registers the server that listens on `endpoints`, keeps it registered until `withdrawal`
    /// completes, and then withdraws it. A server on every interface has `tcp://0.0.0.0:port` there,
    /// which clients elsewhere cannot reach: put an address of this machine in its place.
    ///
    /// It runs on the runtime in which the server was bound, from the moment at which the server
    /// serves. It should try again whenever the name service is away: the server serves meanwhile.
    ///
    /// # Cancellation
    /// The future is dropped with its runtime, or if withdrawing takes more than one second.
    ///
    /// # Panics
    /// A panic is logged, and the server serves on without the registration.
    fn run(self, endpoints: Vec<String>, withdrawal: Withdrawal)
    -> impl Future<Output = ()> + Send;
}

/// A future that completes when a server is to be withdrawn from a name service: when it begins to
/// drain, or has ended.
#[must_use = "await it to learn when the server is to be withdrawn"]
pub struct Withdrawal(BoxFuture<'static, ()>);

impl Withdrawal {
    fn new(mut withdraw: watch::Receiver<bool>) -> Self {
        // An error means that the server has ended.
        Self(Box::pin(async move { drop(withdraw.wait_for(|withdraw| *withdraw).await) }))
    }
}

impl Future for Withdrawal {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_unpin(cx)
    }
}

impl fmt::Debug for Withdrawal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Withdrawal")
    }
}

/// A [`Registration`] without its type, which has not begun.
pub(super) type Pending = Box<dyn FnOnce(Vec<String>, Withdrawal) -> BoxFuture<'static, ()> + Send>;

pub(super) fn pending(registration: impl Registration) -> Pending {
    Box::new(|endpoints, withdrawal| Box::pin(registration.run(endpoints, withdrawal)))
}

/// The registrations of a server that serves. They withdraw it when this value is dropped, too, and
/// nobody waits for that.
pub(super) struct Registrations {
    tasks: JoinSet<()>,
    withdraw: watch::Sender<bool>,
}

impl Registrations {
    pub(super) fn begin(pending: Vec<Pending>, endpoints: &[String], runtime: &Handle) -> Self {
        let (mut tasks, withdraw) = (JoinSet::new(), watch::Sender::new(false));
        for begin in pending {
            let withdrawal = Withdrawal::new(withdraw.subscribe());
            let endpoints = endpoints.to_vec();
            let run = async {
                if let Err(panic) =
                    panics::catch_async(async { begin(endpoints, withdrawal).await }).await
                {
                    tracing::error!(%panic, "the registration of the server has panicked");
                }
            };
            tasks.spawn_on(run, runtime);
        }
        Self { tasks, withdraw }
    }

    /// Withdraws the server, and waits until that is done, or for [`WITHDRAWAL`] on `timer`.
    pub(super) async fn end(mut self, timer: &Handle) {
        if self.tasks.is_empty() {
            return;
        }
        self.withdraw.send_replace(true);
        // The caller may have no runtime of its own.
        let mut timeout = timer.spawn(time::sleep(WITHDRAWAL));
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = ended => {}
            _ = &mut timeout => {
                tracing::warn!("a name service did not withdraw the server in time");
                self.tasks.abort_all();
            }
        }
        timeout.abort();
    }
}

impl Drop for Registrations {
    fn drop(&mut self) {
        self.tasks.detach_all();
    }
}
