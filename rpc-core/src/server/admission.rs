//! Admission control. It limits the number and the bytes of the requests in flight, over all
//! endpoints of a server and for each peer. No I/O, no clock.

use std::{mem, sync::Arc, time::Duration};

use crate::{
    protocol::error::WireError,
    usage::Usage,
    util::{
        fair_share::{SharedLimit, reserve_of},
        gauged::{Gauged, SERVER_IN_FLIGHT},
    },
};

/// The delay before a retry that the server requests when it refuses a request. It is somewhat
/// longer than most functions run. A delay that depended on the rate of completions was measured,
/// and was no better.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The admission control of a server, which counts the admitted requests.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Limits>);

#[derive(Debug)]
struct Limits {
    requests: SharedLimit,
    bytes: SharedLimit,
}

/// The capacity that one request in flight holds until the permit is dropped.
///
/// The permit ends when the function has returned, was dropped, or will never start. It does not
/// end when the caller is answered, because the function may still run.
#[derive(Debug)]
pub(crate) struct Permit {
    bytes: BytesPermit,
    _counted: Gauged,
}

/// The bytes that a request in flight holds until this is dropped.
#[derive(Debug)]
pub(crate) struct BytesPermit {
    limits: Arc<Limits>,
    bytes: usize,
}

impl Admission {
    /// Makes the admission control of a server. The byte limit is at least `max_message_size`, so
    /// that an idle server accepts a message of any permitted size.
    pub(crate) fn new(max_requests: usize, max_bytes: usize, max_message_size: usize) -> Self {
        let max_bytes = max_bytes.max(max_message_size);
        Self(Arc::new(Limits {
            requests: SharedLimit::new(max_requests, reserve_of(max_requests)),
            bytes: SharedLimit::new(max_bytes, reserve_of(max_bytes)),
        }))
    }

    /// Returns the limit of the bytes in flight.
    pub(crate) fn max_bytes(&self) -> usize {
        self.0.bytes.limit()
    }

    /// Admits a request of `bytes` from a peer that has `usage` in flight.
    ///
    /// # Errors
    /// Returns `overloaded` if there is no capacity, with a text that names the exhausted limit.
    pub(crate) fn admit(&self, usage: Usage, bytes: usize) -> Result<Permit, WireError> {
        let limits = &self.0;
        if !limits.requests.acquire(usage.requests, 1) {
            let limit = &limits.requests;
            return Err(refusal(limit, "requests", "max_in_flight", usage.requests, 1));
        }
        match self.admit_bytes(usage, bytes) {
            Ok(bytes) => Ok(Permit { bytes, _counted: Gauged::new(SERVER_IN_FLIGHT) }),
            Err(error) => {
                limits.requests.release(1);
                Err(error)
            }
        }
    }

    /// Admits `bytes` for a request that was admitted, from a peer that has `usage` in flight.
    ///
    /// # Errors
    /// Returns `overloaded` if there is no capacity.
    pub(crate) fn admit_bytes(&self, usage: Usage, bytes: usize) -> Result<BytesPermit, WireError> {
        let limit = &self.0.bytes;
        if limit.acquire(usage.bytes, bytes) {
            return Ok(BytesPermit { limits: Arc::clone(&self.0), bytes });
        }
        let what = "bytes of requests";
        Err(refusal(limit, what, "max_bytes_in_flight", usage.bytes, bytes))
    }
}

/// Makes the error of a request that exceeds the limit `total`.
fn refusal(total: &SharedLimit, what: &str, option: &str, held: usize, asked: usize) -> WireError {
    let (limit, taken) = (total.limit(), total.taken());
    overloaded(if taken.saturating_add(asked) > limit {
        format!("{taken} {what} are under way, and the server's limit ({option}) is {limit}")
    } else {
        format!(
            "{held} {what} of this peer are under way, and what is left of {limit} ({option}) is \
             for others"
        )
    })
}

/// Makes the error of a request for which there is no capacity.
pub(crate) fn overloaded(text: impl Into<String>) -> WireError {
    WireError::overloaded(text, RETRY_AFTER)
}

impl BytesPermit {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns a permit for the bytes of both, which were admitted by the same server.
    pub(crate) fn and(mut self, mut other: Self) -> Self {
        self.bytes += mem::take(&mut other.bytes);
        self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.bytes.limits.requests.release(1);
    }
}

impl Drop for BytesPermit {
    fn drop(&mut self) {
        self.limits.bytes.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::error::Code;

    const NOTHING: Usage = Usage { requests: 0, bytes: 0 };

    fn usage(requests: usize, bytes: usize) -> Usage {
        Usage { requests, bytes }
    }

    #[test]
    fn dropped_permit_releases_capacity() {
        let admission = Admission::new(2, 100, 100);
        let first = admission.admit(NOTHING, 10);
        let second = admission.admit(NOTHING, 10);
        assert!(first.is_ok() && second.is_ok());
        let refused = admission.admit(NOTHING, 10).unwrap_err();
        assert_eq!(refused.code, Code::Overloaded);
        assert_eq!(refused.retry_after, Some(RETRY_AFTER));
        assert_eq!(
            refused.message,
            "2 requests are under way, and the server's limit (max_in_flight) is 2"
        );
        drop(first);
        assert!(admission.admit(NOTHING, 10).is_ok());
        drop(second);
        assert_eq!((admission.0.requests.taken(), admission.0.bytes.taken()), (0, 0));
    }

    #[test]
    fn bytes_in_flight_are_bounded() {
        let admission = Admission::new(100, 10, 50);
        let largest = admission.admit(NOTHING, 50).unwrap();
        let refused = admission.admit(NOTHING, 1).unwrap_err();
        assert_eq!(
            refused.message,
            "50 bytes of requests are under way, and the server's limit (max_bytes_in_flight) is 50"
        );
        assert_eq!(admission.0.requests.taken(), 1, "the refused request holds nothing");
        drop(largest);
    }

    #[test]
    fn greedy_peer_leaves_capacity_for_others() {
        let admission = Admission::new(4, 100, 100);
        let _held: Vec<_> = (0..3).map(|n| admission.admit(usage(n, 0), 0).unwrap()).collect();
        let refused = admission.admit(usage(3, 0), 0).unwrap_err();
        assert_eq!(
            refused.message,
            "3 requests of this peer are under way, and what is left of 4 (max_in_flight) is for \
             others"
        );
        assert!(admission.admit(NOTHING, 0).is_ok());
    }
}
