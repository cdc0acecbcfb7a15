//! How many requests may be under way at once, and with how many bytes, over all endpoints of a
//! server and for each peer. No I/O, no clock.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    error::WireError,
    shares::{Total, kept_of},
};

/// Counts what is admitted.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    requests: Total,
    bytes: Total,
    /// How many have ended since the start; it goes round.
    ended: AtomicUsize,
    pace: Mutex<Pace>,
}

/// What a peer has under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Held {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
}

/// The right of one request to be under way. It ends when the function has returned or was dropped,
/// or never started; not when its caller was answered.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Inner>,
    bytes: usize,
}

impl Admission {
    /// The largest message always fits into an idle server.
    pub(crate) fn new(max_requests: usize, max_bytes: usize, max_message_size: usize) -> Self {
        let max_bytes = max_bytes.max(max_message_size);
        Self(Arc::new(Inner {
            requests: Total::new(max_requests, kept_of(max_requests)),
            bytes: Total::new(max_bytes, kept_of(max_bytes)),
            ended: AtomicUsize::new(0),
            pace: Mutex::default(),
        }))
    }

    /// Lets in a request of `bytes` from a peer that has `held` under way, or says why not.
    pub(crate) fn admit(
        &self,
        held: Held,
        bytes: usize,
        now: Instant,
    ) -> Result<Permit, WireError> {
        let Inner { requests, bytes: all_bytes, .. } = &*self.0;
        if !requests.take(held.requests, 1) {
            return Err(self.refuse(requests, "requests", held.requests, 1, now));
        }
        if !all_bytes.take(held.bytes, bytes) {
            requests.give_back(1);
            return Err(self.refuse(all_bytes, "bytes of requests", held.bytes, bytes, now));
        }
        Ok(Permit { admission: Arc::clone(&self.0), bytes })
    }

    fn refuse(
        &self,
        total: &Total,
        what: &str,
        held: usize,
        asked: usize,
        now: Instant,
    ) -> WireError {
        let (limit, taken) = (total.limit(), total.taken());
        let option = if what == "requests" { "max_in_flight" } else { "max_bytes_in_flight" };
        let text = if taken.saturating_add(asked) > limit {
            format!("{taken} {what} are under way, and the server's limit ({option}) is {limit}")
        } else {
            format!(
                "{held} {what} of this peer are under way, and what is left of {limit} ({option}) is for others"
            )
        };
        WireError::overloaded(text, self.retry_after(now))
    }

    /// When what is under way now will have ended, as far as the recent past tells: a place is free
    /// by then.
    pub(crate) fn retry_after(&self, now: Instant) -> Duration {
        let ended = self.0.ended.load(Ordering::Relaxed);
        let under_way = u32::try_from(self.0.requests.taken()).unwrap_or(u32::MAX);
        // Nothing panics while it is held.
        let mut pace = self.0.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.look(ended, now);
        pace.time_for(under_way)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Inner { requests, bytes, ended, .. } = &*self.admission;
        bytes.give_back(self.bytes);
        requests.give_back(1);
        ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// How fast requests end, seen whenever one is refused.
#[derive(Debug, Default)]
struct Pace {
    /// When it was that how many had ended.
    mark: Option<(Instant, usize)>,
    /// The time from one end to the next. `None` as long as that is not known.
    each: Option<Duration>,
}

impl Pace {
    /// Less than this says little of how fast requests end.
    const SHORT: Duration = Duration::from_millis(10);
    /// How far the recent past goes back.
    const RECENT: Duration = Duration::from_secs(1);
    /// What is told without knowing better: somewhat more than most functions take.
    const UNKNOWN: Duration = Duration::from_millis(100);
    const SHORTEST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_secs(1);

    fn look(&mut self, ended: usize, now: Instant) {
        let Some((since, before)) = self.mark else {
            self.mark = Some((now, ended));
            return;
        };
        let elapsed = now.saturating_duration_since(since);
        if elapsed > 2 * Self::RECENT {
            // The server was not full meanwhile: what ended then says nothing.
            *self = Self { mark: Some((now, ended)), each: None };
            return;
        }
        if elapsed >= Self::SHORT {
            // If none has ended, one may at any moment.
            let ends = u32::try_from(ended.wrapping_sub(before)).unwrap_or(u32::MAX).max(1);
            self.each = Some(elapsed / ends);
        }
        if elapsed >= Self::RECENT {
            self.mark = Some((now, ended));
        }
    }

    fn time_for(&self, requests: u32) -> Duration {
        let time = self.each.map_or(Self::UNKNOWN, |each| each.saturating_mul(requests));
        time.clamp(Self::SHORTEST, Self::LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    const NOTHING: Held = Held { requests: 0, bytes: 0 };

    fn held(requests: usize, bytes: usize) -> Held {
        Held { requests, bytes }
    }

    #[test]
    fn a_permit_that_is_dropped_makes_room() {
        let (admission, now) = (Admission::new(2, 100, 100), Instant::now());
        let first = admission.admit(NOTHING, 10, now);
        let second = admission.admit(NOTHING, 10, now);
        assert!(first.is_ok() && second.is_ok());
        let refused = admission.admit(NOTHING, 10, now).unwrap_err();
        assert_eq!(refused.code, Code::Overloaded);
        assert_eq!(
            refused.message,
            "2 requests are under way, and the server's limit (max_in_flight) is 2"
        );
        drop(first);
        assert!(admission.admit(NOTHING, 10, now).is_ok());
        drop(second);
        assert_eq!((admission.0.requests.taken(), admission.0.bytes.taken()), (0, 0));
    }

    #[test]
    fn bytes_are_bounded_as_requests_are() {
        let (admission, now) = (Admission::new(100, 10, 50), Instant::now());
        let largest = admission.admit(NOTHING, 50, now).unwrap();
        let refused = admission.admit(NOTHING, 1, now).unwrap_err();
        assert_eq!(
            refused.message,
            "50 bytes of requests are under way, and the server's limit (max_bytes_in_flight) is 50"
        );
        assert_eq!(admission.0.requests.taken(), 1, "what was refused holds no place");
        drop(largest);
    }

    #[test]
    fn who_holds_more_than_is_free_is_refused_and_others_are_not() {
        let (admission, now) = (Admission::new(4, 100, 100), Instant::now());
        let _held: Vec<_> = (0..3).map(|n| admission.admit(held(n, 0), 0, now).unwrap()).collect();
        let refused = admission.admit(held(3, 0), 0, now).unwrap_err();
        assert_eq!(
            refused.message,
            "3 requests of this peer are under way, and what is left of 4 (max_in_flight) is for others"
        );
        assert!(admission.admit(NOTHING, 0, now).is_ok());
    }

    #[test]
    fn who_is_refused_is_told_when_what_is_under_way_will_have_ended() {
        let (admission, now) = (Admission::new(100, 0, 0), Instant::now());
        let mut permits: Vec<_> =
            (0..100).map(|_| admission.admit(NOTHING, 0, now).unwrap()).collect();
        assert_eq!(admission.retry_after(now), Pace::UNKNOWN);
        // Fifty a tenth of a second: the fifty that are left take another.
        permits.truncate(50);
        let later = now + Duration::from_millis(100);
        assert_eq!(admission.retry_after(later), Duration::from_millis(100));
        assert_eq!(
            admission.retry_after(later + Duration::from_secs(3)),
            Pace::UNKNOWN,
            "long ago"
        );
        // None ends for a while.
        assert_eq!(admission.retry_after(later + Duration::from_secs(4)), Pace::LONGEST);
        permits.clear();
        assert_eq!(admission.retry_after(later + Duration::from_secs(4)), Pace::SHORTEST);
    }
}
