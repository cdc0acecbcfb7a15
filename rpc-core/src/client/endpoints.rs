//! The endpoints of a client. They are compared by identity, and not by an index into a list,
//! because endpoints can be added and removed while calls run.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use crate::{endpoint::Endpoint, util::fnv};

/// An endpoint of a client, and the state of connecting to it. Two endpoints are the same if they
/// are the same `Arc`.
#[derive(Debug)]
pub(crate) struct EndpointState {
    /// The endpoint, as it was given to the client.
    pub(crate) name: Arc<str>,
    pub(crate) address: Endpoint,
    /// The hash of the name, by which affinity keys choose among endpoints.
    pub(crate) hash: u64,
    failure: Mutex<Option<Arc<str>>>,
    has_given_up: AtomicBool,
}

/// A change of a client's set of endpoints.
#[derive(Debug)]
pub(crate) enum Change {
    /// Adds an endpoint, to which calls may go from now on.
    Insert(Arc<EndpointState>),
    /// Removes an endpoint. New calls go to other endpoints. Calls that were sent to this one are
    /// still answered.
    Remove(Arc<EndpointState>),
    /// Notes the last answer of a source of endpoints.
    Source {
        /// The place of the source among those of the client.
        index: usize,
        /// The number of endpoints that the source names.
        endpoints: usize,
        /// The reason why its list is not what it should be.
        failure: Option<Arc<str>>,
    },
}

impl EndpointState {
    pub(crate) fn new(name: Arc<str>, address: Endpoint) -> Arc<Self> {
        let (failure, has_given_up) = (Mutex::default(), AtomicBool::new(false));
        let hash = fnv::hash(name.as_bytes());
        Arc::new(Self { name, address, hash, failure, has_given_up })
    }

    /// Returns the reason why there is no link. Returns `None` while there is a link, or during the
    /// first attempt to connect.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.lock().clone()
    }

    /// Sets the reason why there is no link, and returns the previous reason.
    pub(crate) fn set_failure(&self, failure: Option<Arc<str>>) -> Option<Arc<str>> {
        std::mem::replace(&mut self.lock(), failure)
    }

    /// Notes that no server has answered within the connect timeout of the client.
    pub(crate) fn give_up(&self) {
        self.has_given_up.store(true, Ordering::Release);
    }

    /// Returns true if no server has answered within the connect timeout of the client.
    pub(crate) fn has_given_up(&self) -> bool {
        self.has_given_up.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        // No code panics while it holds this lock.
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
