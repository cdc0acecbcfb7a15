//! The endpoints of a client. They are identities and not positions: endpoints come and go while calls
//! run.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use crate::endpoint::Endpoint;

/// An endpoint, as far as calls are concerned. Two are the same if they are the same `Arc`.
#[derive(Debug)]
pub(crate) struct EndpointState {
    /// The endpoint as it was given.
    pub(crate) name: Arc<str>,
    pub(crate) address: Endpoint,
    failure: Mutex<Option<Arc<str>>>,
    has_given_up: AtomicBool,
}

/// A change of a client's set of endpoints.
#[derive(Debug)]
pub(crate) enum Change {
    /// Calls may go to this endpoint.
    Insert(Arc<EndpointState>),
    /// New calls go elsewhere. Calls that were sent there are still answered.
    #[cfg_attr(not(test), expect(dead_code, reason = "no source of changes removes endpoints yet"))]
    Remove(Arc<EndpointState>),
}

impl EndpointState {
    pub(crate) fn new(name: Arc<str>, address: Endpoint) -> Arc<Self> {
        let (failure, has_given_up) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { name, address, failure, has_given_up })
    }

    /// Returns the reason why there is no link. `None` while there is one, or the first attempt to
    /// connect is under way.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.lock().clone()
    }

    /// Sets the reason why there is no link, and returns the reason before.
    pub(crate) fn set_failure(&self, failure: Option<Arc<str>>) -> Option<Arc<str>> {
        std::mem::replace(&mut self.lock(), failure)
    }

    /// Notes that nobody answered within the time that the client was given to connect.
    pub(crate) fn give_up(&self) {
        self.has_given_up.store(true, Ordering::Release);
    }

    pub(crate) fn has_given_up(&self) -> bool {
        self.has_given_up.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        // Nothing panics while it is held.
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Joins the names of endpoints, for errors that concern all of them.
pub(crate) fn names(endpoints: &[Arc<EndpointState>]) -> String {
    endpoints.iter().map(|endpoint| &*endpoint.name).collect::<Vec<_>>().join(", ")
}
