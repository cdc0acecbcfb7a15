//! The endpoints of calls: their changes, their status, and the reasons why there is no link.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use super::Calls;
use crate::{
    client::{
        balancer::Link,
        endpoints::EndpointState,
        status::{ClientStatus, Connectivity, EndpointStatus, SourceStatus},
        window::LinkWindow,
    },
    error::RpcError,
    util::wakers::Wakers,
};

impl Calls {
    /// Adds an endpoint, unless it is known already.
    pub(crate) fn insert_endpoint(&mut self, endpoint: &Arc<EndpointState>) {
        if !self.endpoints.iter().any(|known| Arc::ptr_eq(known, endpoint)) {
            self.endpoints.push(Arc::clone(endpoint));
        }
    }

    /// Adds a source of endpoints, which has not answered yet.
    pub(crate) fn insert_source(&mut self, name: Arc<str>) {
        let (has_answered, endpoints, failure) = (false, 0, None);
        self.sources.push(SourceStatus { source: name, has_answered, endpoints, failure });
    }

    /// Notes the last answer of a source. Calls with `fail_fast` wait for the first.
    pub(crate) fn handle_source(
        &mut self,
        index: usize,
        endpoints: usize,
        failure: Option<Arc<str>>,
        now: Instant,
        wakers: &mut Wakers,
    ) {
        let Some(source) = self.sources.get_mut(index) else { return };
        (source.endpoints, source.failure) = (endpoints, failure);
        if !std::mem::replace(&mut source.has_answered, true) {
            self.route_unrouted(VecDeque::new(), now, wakers);
        }
    }

    /// Returns true if calls with `fail_fast` have nothing to wait for: every source has answered,
    /// and no endpoint has a link or is still being connected for the first time.
    pub(super) fn has_no_link(&self) -> bool {
        self.sources.iter().all(|source| source.has_answered)
            && self.endpoints.iter().all(|endpoint| endpoint.failure().is_some())
    }

    /// Removes an endpoint. A link to it drains: calls that were not sent yet go to other
    /// endpoints.
    pub(crate) fn remove_endpoint(
        &mut self,
        endpoint: &Arc<EndpointState>,
        now: Instant,
        wakers: &mut Wakers,
    ) {
        self.endpoints.retain(|known| !Arc::ptr_eq(known, endpoint));
        let mut queues = VecDeque::new();
        for link in self.balancer.iter_mut() {
            if Arc::ptr_eq(&link.endpoint, endpoint) {
                queues.append(&mut link.drain(wakers));
            }
        }
        self.route_unrouted(queues, now, wakers);
    }

    /// Notes why there is no link to an endpoint. Calls with `fail_fast` then end, unless another
    /// endpoint has a link or is still being connected for the first time.
    pub(crate) fn link_failed(
        &mut self,
        endpoint: &Arc<EndpointState>,
        cause: &str,
        now: Instant,
        wakers: &mut Wakers,
    ) {
        if endpoint.set_failure(Some(cause.into())).is_none() {
            self.route_unrouted(VecDeque::new(), now, wakers);
        }
    }

    /// Returns the state of the calls and of the endpoints.
    pub(crate) fn status(&self, now: Instant) -> ClientStatus {
        let status = |endpoint: &Arc<EndpointState>| {
            let is_here = |to: &Arc<EndpointState>| Arc::ptr_eq(to, endpoint);
            let links = || self.balancer.iter().filter(|link| is_here(&link.endpoint));
            let state = match links().find(|link| !link.draining) {
                Some(Link { blocked: Some(reason), .. }) => {
                    Connectivity::Blocked { reason: Arc::clone(reason) }
                }
                Some(link) if link.unresponsive => Connectivity::Unresponsive,
                Some(link) if link.backs_off_until.is_some_and(|until| until > now) => {
                    Connectivity::Overloaded
                }
                Some(_) => Connectivity::Connected,
                None => Connectivity::Connecting { reason: endpoint.failure() },
            };
            let calls = links().map(|link| link.sent.calls).sum();
            let open = links().find(|link| !link.draining);
            let window = open.and_then(|link| link.window.as_ref()).map(LinkWindow::calls);
            EndpointStatus { endpoint: Arc::clone(&endpoint.name), state, calls, window }
        };
        ClientStatus {
            endpoints: self.endpoints.iter().map(status).collect(),
            sources: self.sources.clone(),
            calls: self.capacity.calls,
            bytes: self.capacity.bytes,
            waiting: self.slots.len().saturating_sub(self.capacity.calls) + self.unrouted.len(),
            retries: self.retries,
        }
    }

    pub(crate) fn endpoints(&self) -> &[Arc<EndpointState>] {
        &self.endpoints
    }

    /// Returns the reasons why there is no link. Returns `None` if there is a link, or if no reason
    /// is known yet.
    pub(crate) fn why_no_link(&self) -> Option<String> {
        if self.balancer.iter().next().is_some() {
            return None;
        }
        let reason =
            |endpoint: &Arc<EndpointState>| match (endpoint.failure(), self.endpoints.len()) {
                // The error names what the client was given: this endpoint, or its source.
                (Some(failure), 1) if self.sources.is_empty() => Some(failure.to_string()),
                (Some(failure), _) => Some(format!("{}: {failure}", endpoint.name)),
                (None, _) => None,
            };
        let of_source = |source: &SourceStatus| match &source.failure {
            Some(failure) => Some(format!("{}: {failure}", source.source)),
            None if source.has_answered => None,
            None => Some(format!("{}: it has not answered yet", source.source)),
        };
        let sources = self.sources.iter().filter_map(of_source);
        let reasons: Vec<_> = self.endpoints.iter().filter_map(reason).chain(sources).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Adds the reasons why there is no link to an error, as its source.
    pub(super) fn explain(&self, error: RpcError) -> RpcError {
        match self.why_no_link() {
            Some(reasons) => error.with_source(reasons),
            None => error,
        }
    }
}
