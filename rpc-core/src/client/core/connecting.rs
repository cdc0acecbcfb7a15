//! The changes of a client's endpoints, and the outcome of connecting for the first time: a link to
//! one endpoint, or none within the connect timeout.

use std::{sync::Arc, time::Instant};

use crate::client::{core::ClientCore, endpoints::EndpointState};

impl ClientCore {
    /// Adds an endpoint.
    pub(crate) fn insert_endpoint(&self, endpoint: &Arc<EndpointState>) {
        self.with_calls(|calls, _| calls.insert_endpoint(endpoint));
    }

    /// Removes an endpoint. Calls that were queued for it, and not sent yet, go to other endpoints.
    pub(crate) fn remove_endpoint(&self, endpoint: &Arc<EndpointState>) {
        self.with_calls(|calls, wakers| calls.remove_endpoint(endpoint, Instant::now(), wakers));
        self.check_given_up();
    }

    /// Notes the last answer of a source of endpoints.
    pub(crate) fn handle_source(&self, index: usize, endpoints: usize, failure: Option<Arc<str>>) {
        self.with_calls(|calls, wakers| {
            calls.handle_source(index, endpoints, failure, Instant::now(), wakers);
        });
    }

    /// Waits until there has been a link. Returns the reasons if there was none in time.
    pub(crate) async fn connected(&self) -> Result<(), Arc<str>> {
        let mut connected = self.connected.subscribe();
        // An error would mean that the sender was dropped, but `self` holds it.
        let settled = connected.wait_for(Option::is_some).await;
        settled.ok().and_then(|connected| connected.clone()).unwrap_or(Ok(()))
    }

    /// Sets the outcome of connecting, unless it is known already.
    pub(super) fn settle_connected(&self, outcome: Result<(), Arc<str>>) {
        self.connected.send_if_modified(|connected| {
            let is_new = connected.is_none();
            if is_new {
                *connected = Some(outcome);
            }
            is_new
        });
    }

    /// Notes that an endpoint had no link within the connect timeout. If this is true of all
    /// endpoints, connecting has failed.
    pub(crate) fn give_up(&self, endpoint: &EndpointState) {
        endpoint.give_up();
        self.check_given_up();
    }

    /// Fails connecting, if no endpoint has had a link within the connect timeout.
    pub(super) fn check_given_up(&self) {
        let state = self.lock();
        if state.calls.endpoints().iter().all(|endpoint| endpoint.has_given_up()) {
            let reasons = state.calls.why_no_link();
            drop(state);
            let reasons = reasons.unwrap_or_else(|| "there is no endpoint".to_owned());
            self.settle_connected(Err(reasons.into()));
        }
    }
}
