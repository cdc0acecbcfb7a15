//! The log of requests that a server could not serve well. No I/O, no clock.
//!
//! Each error of a call or of a refusal is logged at `DEBUG`. In addition, at most one a second of
//! each kind and function is logged at `WARN`, with the number of those before it that were not, so
//! that a busy server in trouble does not make it worse by its log. A healthy server logs nothing
//! for a call.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::HashMap;

use crate::{
    context::Context,
    peer::PeerId,
    protocol::error::{Code, WireError},
    server::hooks::{Hooks, RefusedRequest},
    util::cut::cut_name,
};

/// The shortest interval between two warnings of the same kind.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct ErrorLog {
    /// The warnings of each kind and function. Names that no function has count as one.
    warnings: HashMap<(&'static str, String), Warnings>,
    /// The hooks of the server, which are told of refusals.
    hooks: Option<Arc<Hooks>>,
}

#[derive(Debug)]
struct Warnings {
    next_at: Instant,
    /// The number of errors since the last warning.
    suppressed: u64,
}

impl ErrorLog {
    pub(crate) fn new(hooks: Option<Arc<Hooks>>) -> Self {
        Self { hooks, ..Self::default() }
    }

    /// Logs the error of a call. The hooks are told of it if its function has not begun: otherwise
    /// they know already.
    pub(crate) fn note_end(&mut self, context: &Context, error: &WireError, now: Instant) {
        if context.has_started() {
            self.note(context.function(), error, now);
        } else {
            self.refused(context.function(), context.peer_id(), error, now);
        }
    }

    /// Logs the error of a request whose function has not begun, and tells the hooks of it. The name
    /// of the function may come from the peer.
    pub(crate) fn refused(
        &mut self,
        function: &str,
        peer: &PeerId,
        error: &WireError,
        now: Instant,
    ) {
        if let Some(hooks) = &self.hooks {
            hooks.refused(&RefusedRequest { function, peer, error });
        }
        self.note(function, error, now);
    }

    /// Logs an error that a request of `function` ends with. The name may come from a peer.
    fn note(&mut self, function: &str, error: &WireError, now: Instant) {
        let (code, reason) = (error.code.as_str(), &*error.message);
        let function = cut_name(function);
        tracing::debug!(function, code, reason, "a request failed");
        // Before the function is looked up, a peer may have made up the name.
        let made_up = matches!(error.code, Code::UnknownFunction | Code::TooLarge | Code::Denied);
        let known = if made_up { "" } else { function };
        if let Some(suppressed) = self.warn(error.code, known, now) {
            tracing::warn!(function, code, reason, suppressed, "a request failed");
        }
    }

    /// Returns the number of suppressed warnings if a warning of this kind is due.
    fn warn(&mut self, code: Code, function: &str, now: Instant) -> Option<u64> {
        match code {
            // These are the business of the function and of its caller. A panic was logged already.
            Code::Failed
            | Code::Panicked
            | Code::Cancelled
            | Code::ShuttingDown
            | Code::Other(_) => return None,
            _ => {}
        }
        let first = Warnings { next_at: now, suppressed: 0 };
        let warnings = self.warnings.entry((code.as_str(), function.to_owned())).or_insert(first);
        if now < warnings.next_at {
            warnings.suppressed += 1;
            return None;
        }
        warnings.next_at = now + INTERVAL;
        Some(std::mem::take(&mut warnings.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_of_each_kind_are_limited() {
        let (mut log, now) = (ErrorLog::default(), Instant::now());
        assert_eq!(log.warn(Code::Overloaded, "f", now), Some(0));
        for _ in 0..1_000 {
            assert_eq!(log.warn(Code::Overloaded, "f", now), None);
        }
        assert_eq!(log.warn(Code::BadArguments, "f", now), Some(0), "it is of another kind");
        assert_eq!(log.warn(Code::Overloaded, "g", now), Some(0), "it is of another function");
        assert_eq!(log.warn(Code::Overloaded, "f", now + INTERVAL), Some(1_000));
        assert_eq!(log.warn(Code::Overloaded, "f", now + 2 * INTERVAL), Some(0));
        assert_eq!(log.warn(Code::Failed, "f", now), None);
    }

    #[test]
    fn names_that_peers_make_up_count_as_one() {
        let (mut log, now) = (ErrorLog::default(), Instant::now());
        for code in [Code::UnknownFunction, Code::TooLarge, Code::Denied] {
            for number in 0..1_000 {
                let error = WireError::new(code, crate::error::Ran::No, "");
                log.note(&number.to_string(), &error, now);
            }
        }
        assert_eq!(log.warnings.len(), 3);
    }
}
