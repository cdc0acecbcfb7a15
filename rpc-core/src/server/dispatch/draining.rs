//! The dispatcher of a server that drains.

use std::time::{Duration, Instant};

use crate::{
    peer::PeerId,
    protocol::control,
    server::{
        dispatch::{Dispatcher, Outbound},
        executor::Execute,
    },
    transport::ReplyTo,
};

/// The time for which a server that drains still starts calls of clients that it has sent a
/// go-away. In that time it reaches them, and what they had sent before arrives.
pub(super) const CROSSING: Duration = Duration::from_secs(1);

impl<E: Execute> Dispatcher<E> {
    /// Starts draining: every session is sent a go-away, and new calls are refused, except those
    /// that cross it.
    pub(crate) fn drain(&mut self, now: Instant, out: &mut Vec<Outbound>) {
        self.draining_since = Some(now);
        let body = control::go_away();
        let go_away = |client: &ReplyTo| Outbound::new(client.clone(), body.clone());
        out.extend(self.sessions.iter().map(go_away));
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining_since.is_some()
    }

    /// Returns true if calls of `peer` are refused, because the server drains. Calls that crossed
    /// the go-away are still run.
    pub(super) fn is_closed_to(&self, peer: &PeerId, now: Instant) -> bool {
        self.draining_since.is_some_and(|since| {
            !self.sessions.has_peer(peer) || now.saturating_duration_since(since) >= CROSSING
        })
    }
}
