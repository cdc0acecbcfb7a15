//! The context of a call: the facts that a function can learn about the call that it runs for, and
//! the deadline that nested calls inherit.

use std::{
    cell::Cell,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    peer::PeerId,
    protocol::metadata::{Metadata, Value},
};

#[cfg(feature = "curve")]
use crate::keys::PublicKey;

/// The call that a function runs for. A function gets it with a `#[context] cx: &Context`
/// parameter.
///
/// A clone is cheap, and may outlive the call.
///
/// # Inherited deadlines
/// Calls that the function itself makes inherit the deadline of its own call, even without a
/// `#[context]` parameter. In a task or thread that it has started, they do so only if that is
/// asked for:
///
/// | started by                 | write                                |
/// |----------------------------|--------------------------------------|
/// | `tokio::spawn`             | [`cx.spawn(future)`](Self::spawn)     |
/// | a `JoinSet`, or otherwise  | [`cx.scope(future)`](Self::scope)     |
/// | `thread::spawn`, `rayon`   | [`cx.run(closure)`](Self::run)        |
///
/// ```standalone_crate
/// use rpc_core::{Client, Context, RpcError, remote};
/// use tokio::task::JoinSet;
///
/// #[remote(idempotent)]
/// fn price(item: u32) -> u64;
///
/// /// Asks for all prices at the same time. The calls end with the deadline of this one.
/// #[remote]
/// async fn total(
///     #[state] prices: &Client,
///     #[context] cx: &Context,
///     items: Vec<u32>,
/// ) -> Result<u64, String> {
///     let mut tasks = JoinSet::new();
///     for item in items {
///         let prices = prices.clone();
///         tasks.spawn(cx.scope(async move { price::call(&prices, item).await }));
///     }
///     let all: Result<Vec<u64>, RpcError> = tasks.join_all().await.into_iter().collect();
///     all.map(|all| all.iter().sum()).map_err(|error| error.to_string())
/// }
/// ```
///
/// # Example
/// ```
/// use rpc_core::{Context, remote};
///
/// #[remote]
/// fn primes_below(#[context] cx: &Context, limit: u64) -> Vec<u64> {
///     let is_prime = |n: &u64| (2..*n).all(|divisor| n % divisor != 0);
///     // Returns early if the caller does not want the result any more.
///     (2..limit).take_while(|_| !cx.is_cancelled()).filter(is_prime).collect()
/// }
/// ```
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    peer: PeerId,
    function: &'static str,
    deadline: Option<Instant>,
    /// The metadata and the trace of the caller. Most calls have none, and are smaller for it.
    sent: Option<Box<Sent>>,
    /// The flags [`STARTED`] and [`CANCELLED`]. Either may be set first.
    state: AtomicU8,
    notify: Notify,
}

/// The parts of a call that its caller sends besides the arguments.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) metadata: Metadata,
    pub(crate) trace_parent: Option<Box<str>>,
}

const STARTED: u8 = 1;
const CANCELLED: u8 = 2;

impl Context {
    pub(crate) fn new(peer: PeerId, function: &'static str, deadline: Option<Instant>) -> Self {
        Self::with(peer, function, deadline, None)
    }

    /// Makes the context of a call with which its caller has sent more.
    #[inline]
    pub(crate) fn with(
        peer: PeerId,
        function: &'static str,
        deadline: Option<Instant>,
        sent: Option<Box<Sent>>,
    ) -> Self {
        let (state, notify) = (AtomicU8::new(0), Notify::new());
        Self(Arc::new(Inner { peer, function, deadline, sent, state, notify }))
    }

    /// Returns the context of the call for which this thread, or this task, runs a function at the
    /// moment. `None` if there is none.
    ///
    /// It is there in the function itself, and in what was started with [`spawn`](Self::spawn),
    /// [`scope`](Self::scope) or [`run`](Self::run).
    #[must_use]
    pub fn current() -> Option<Self> {
        with_current(Option::clone)
    }

    /// Returns the ZeroMQ identity of the peer that sent the request, or for `inproc://` the number
    /// that the transport gave it.
    ///
    /// It distinguishes the peers that are connected. It proves nothing, because a peer chooses its
    /// own identity. With the feature `curve`, `peer_key` proves something.
    ///
    /// - Behind a proxy, it is the identity of the proxy, which all clients behind it share.
    /// - Of calls with the same idempotency key, the function runs for the first one, and this is
    ///   the peer of the first one. It may have gone meanwhile.
    /// - The peer of a notification may have gone when the function runs.
    #[must_use]
    pub fn peer(&self) -> &[u8] {
        self.0.peer.as_bytes()
    }

    /// Returns the key that the peer has proved to have. `None` if the connection is not encrypted.
    ///
    /// Behind a proxy, it is the key of the proxy.
    #[cfg(feature = "curve")]
    #[must_use]
    pub fn peer_key(&self) -> Option<PublicKey> {
        let verified = self.0.peer.verification()?;
        Some(PublicKey::from_bytes(verified.key))
    }

    /// Returns the name that the [access list](crate::Access) gave the key of the peer, when it
    /// connected. `None` if the list did not name it, or if the connection is not encrypted.
    #[cfg(feature = "curve")]
    #[must_use]
    pub fn peer_name(&self) -> Option<&str> {
        self.0.peer.verification()?.name.as_deref()
    }

    pub(crate) fn peer_id(&self) -> &PeerId {
        &self.0.peer
    }

    /// Returns a text that the caller has sent with the call, by [`Call::metadata`]. `None` if it
    /// has sent none of this name, or bytes.
    ///
    /// It is what the caller says, and proves nothing.
    ///
    /// [`Call::metadata`]: crate::Call::metadata
    #[must_use]
    pub fn metadata(&self, name: &str) -> Option<&str> {
        match self.value(name)? {
            Value::Text(text) => Some(text),
            Value::Bytes(_) => None,
        }
    }

    /// Returns bytes that the caller has sent with the call, by [`Call::metadata_bytes`], or the
    /// bytes of a text.
    ///
    /// [`Call::metadata_bytes`]: crate::Call::metadata_bytes
    #[must_use]
    pub fn metadata_bytes(&self, name: &str) -> Option<&[u8]> {
        self.value(name).map(Value::as_bytes)
    }

    /// Iterates over the names of the metadata that the caller has sent with the call.
    pub fn metadata_names(&self) -> impl Iterator<Item = &str> {
        self.0.sent.iter().flat_map(|sent| sent.metadata.pairs()).map(|(name, _)| name)
    }

    pub(crate) fn value(&self, name: &str) -> Option<Value<'_>> {
        self.0.sent.as_ref()?.metadata.get(name)
    }

    /// Returns the [`traceparent`](https://www.w3.org/TR/trace-context/#traceparent-header) that
    /// the caller has sent with the call: 55 characters, or more in a later version of that
    /// specification. `None` if it has sent none, or one that is not valid.
    #[must_use]
    pub fn trace_parent(&self) -> Option<&str> {
        self.0.sent.as_ref()?.trace_parent.as_deref()
    }

    /// Returns the wire name of the function.
    #[must_use]
    pub fn function(&self) -> &'static str {
        self.0.function
    }

    /// Returns the deadline of the call. `None` if neither the request nor the function sets a
    /// timeout.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// Returns the time that is left until the deadline: zero if it has passed, and `None` if there
    /// is no deadline.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.0.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Returns true if the result is not wanted any more: the caller has cancelled the call or has
    /// disconnected, the deadline has passed, or the server has stopped waiting for the function.
    ///
    /// A caller that disconnects does not cancel its notifications, or its calls that have an
    /// idempotency key. A sync function that runs for long should check this regularly, and return
    /// early.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.state.load(Ordering::Acquire) & CANCELLED != 0
            || self.0.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Waits until the call is cancelled.
    ///
    /// An async function need not wait for this, because its future is dropped when the call is
    /// cancelled. A task that the function has spawned may wait for it, but only as long as the
    /// call lasts: a call that has ended is never cancelled, and the wait would not end.
    pub async fn cancelled(&self) {
        let mut notified = pin!(self.0.notify.notified());
        // The waiter is registered before the flag is read. Otherwise a cancellation between the
        // two steps would be missed.
        notified.as_mut().enable();
        if self.0.state.load(Ordering::Acquire) & CANCELLED == 0 {
            notified.await;
        }
    }

    /// Records that the function starts `now`. Returns false if it must not start, because the call
    /// was cancelled or its deadline has passed.
    pub(crate) fn start(&self, now: Instant) -> bool {
        let in_time = self.0.deadline.is_none_or(|deadline| deadline > now);
        in_time && self.0.state.fetch_or(STARTED, Ordering::AcqRel) & CANCELLED == 0
    }

    /// Returns true if the function has started.
    pub(crate) fn has_started(&self) -> bool {
        self.0.state.load(Ordering::Acquire) & STARTED != 0
    }

    /// Cancels the call. Returns true if the function has started. If it has not, it never will.
    pub(crate) fn cancel(&self) -> bool {
        let before = self.0.state.fetch_or(CANCELLED, Ordering::AcqRel);
        self.0.notify.notify_waiters();
        before & STARTED != 0
    }

    /// Runs `f` so that the calls that it makes inherit the deadline of this call. This is for
    /// threads that the function has started.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> T {
        /// Restores the outer context, also if `f` panics.
        struct Restore(Option<Context>);
        impl Drop for Restore {
            fn drop(&mut self) {
                replace_current(self.0.take());
            }
        }
        let _restore = Restore(replace_current(Some(self.clone())));
        f()
    }

    /// Returns a future that is polled so that the calls that it makes inherit the deadline of this
    /// call. This is for tasks that the function starts.
    ///
    /// The future is not dropped when the call is cancelled: see [`cancelled`](Self::cancelled).
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        let (context, mut future) = (self.clone(), Box::pin(future));
        poll_fn(move |cx| context.run(|| future.as_mut().poll(cx)))
    }

    /// Spawns a task on the current tokio runtime. The calls that it makes inherit the deadline of
    /// this call.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime, as `tokio::spawn` does.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        tokio::spawn(self.scope(future))
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("function", &self.0.function)
            .field("peer", &self.0.peer)
            .field("remaining", &self.remaining())
            .field("cancelled", &self.is_cancelled())
            .finish()
    }
}

thread_local! {
    static CURRENT: Cell<Option<Context>> = const { Cell::new(None) };
}

/// Replaces the context of this thread, and returns the previous one. A thread that is about to end
/// has none.
fn replace_current(context: Option<Context>) -> Option<Context> {
    CURRENT.try_with(|current| current.replace(context)).unwrap_or_default()
}

fn with_current<T>(read: impl FnOnce(&Option<Context>) -> T) -> T {
    let current = replace_current(None);
    let result = read(&current);
    replace_current(current);
    result
}

/// Returns the deadline of the call for which this thread runs a function at the moment. `None` if
/// there is no such call, or it has no deadline.
pub(crate) fn inherited_deadline() -> Option<Instant> {
    with_current(|current| current.as_ref().and_then(Context::deadline))
}
