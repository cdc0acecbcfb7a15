//! What a function can know of the call it runs for, and the deadline that nested calls inherit.

use std::{
    cell::Cell,
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::peer::PeerId;

/// The call that a function runs for. Ask for it with a `#[context] cx: &Context` parameter.
///
/// Cheap to clone; a clone may outlive the call.
///
/// ```
/// use rpc_core::{Context, remote};
///
/// #[remote]
/// fn primes_below(#[context] cx: &Context, limit: u64) -> Vec<u64> {
///     let is_prime = |n: &u64| (2..*n).all(|divisor| n % divisor != 0);
///     // It returns early once nobody wants the result any more.
///     (2..limit).take_while(|_| !cx.is_cancelled()).filter(is_prime).collect()
/// }
/// ```
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    peer: PeerId,
    function: &'static str,
    deadline: Option<Instant>,
    /// [`STARTED`] and [`CANCELLED`], set in whatever order it happens.
    state: AtomicU8,
    notify: Notify,
}

const STARTED: u8 = 1;
const CANCELLED: u8 = 2;

impl Context {
    pub(crate) fn new(peer: PeerId, function: &'static str, deadline: Option<Instant>) -> Self {
        let (state, notify) = (AtomicU8::new(0), Notify::new());
        Self(Arc::new(Inner { peer, function, deadline, state, notify }))
    }

    /// The caller's ZeroMQ identity, or the in-memory transport's number for it: it tells peers
    /// apart while they are connected. It proves nothing, since a peer chooses its own.
    #[must_use]
    pub fn peer(&self) -> &[u8] {
        self.0.peer.as_bytes()
    }

    pub(crate) fn peer_id(&self) -> &PeerId {
        &self.0.peer
    }

    /// The wire name of the function.
    #[must_use]
    pub fn function(&self) -> &'static str {
        self.0.function
    }

    /// When the caller stops waiting, if it said so.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// How much time is left; zero once the deadline has passed, `None` if there is none.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.0.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether nobody wants the result any more: the caller cancelled or vanished, or the deadline
    /// passed. A sync function that runs for long should ask now and then, and return early.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.state.load(Ordering::Acquire) & CANCELLED != 0
            || self.0.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Completes when the call is cancelled. An async function need not wait for it, because its
    /// future is dropped then; a task that it spawned may want to, but no longer than its call
    /// lasts: a call that has ended is never cancelled.
    pub async fn cancelled(&self) {
        let mut notified = pin!(self.0.notify.notified());
        // Registered before the flag is read, so that a cancellation between the two is not missed.
        notified.as_mut().enable();
        if self.0.state.load(Ordering::Acquire) & CANCELLED == 0 {
            notified.await;
        }
    }

    /// Notes that the function starts `now`. `false` if it must not, because it was cancelled or is
    /// too late.
    pub(crate) fn start(&self, now: Instant) -> bool {
        let in_time = self.0.deadline.is_none_or(|deadline| deadline > now);
        in_time && self.0.state.fetch_or(STARTED, Ordering::AcqRel) & CANCELLED == 0
    }

    /// Whether the function has started.
    pub(crate) fn has_started(&self) -> bool {
        self.0.state.load(Ordering::Acquire) & STARTED != 0
    }

    /// Notes that nobody wants the result. `true` if the function has started; otherwise it never
    /// will.
    pub(crate) fn cancel(&self) -> bool {
        let before = self.0.state.fetch_or(CANCELLED, Ordering::AcqRel);
        self.0.notify.notify_waiters();
        before & STARTED != 0
    }

    /// Runs `f` so that calls made in it inherit this call's deadline.
    pub(crate) fn scope<T>(&self, f: impl FnOnce() -> T) -> T {
        /// Puts the outer deadline back, also when `f` panics.
        struct Restore(Option<Instant>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT_DEADLINE.set(self.0);
            }
        }
        let _restore = Restore(CURRENT_DEADLINE.replace(self.0.deadline));
        f()
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
    static CURRENT_DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The deadline of the call that this thread is running a function for, if any.
pub(crate) fn inherited_deadline() -> Option<Instant> {
    CURRENT_DEADLINE.get()
}
