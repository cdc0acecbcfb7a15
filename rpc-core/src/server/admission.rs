//! How many requests may be under way at once, counted over all endpoints of a server.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Counts what is admitted.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    admitted: AtomicUsize,
}

/// The right of one request to be under way. It ends when the function has returned or was dropped, or never
/// started; not when its caller was answered.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Inner>);

impl Admission {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit, admitted: AtomicUsize::new(0) }))
    }

    pub(crate) fn limit(&self) -> usize {
        self.0.limit
    }

    /// `None` if as many are under way as may be.
    pub(crate) fn admit(&self) -> Option<Permit> {
        let one_more = |admitted| (admitted < self.0.limit).then_some(admitted + 1);
        self.0.admitted.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).ok()?;
        Some(Permit(Arc::clone(&self.0)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.admitted.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_that_is_dropped_makes_room() {
        let admission = Admission::new(2);
        let first = admission.admit();
        let second = admission.admit();
        assert!(first.is_some() && second.is_some());
        assert!(admission.admit().is_none());
        drop(first);
        assert!(admission.admit().is_some());
    }
}
