//! The request-reply envelope of [RFC 28](https://rfc.zeromq.org/spec/28/), for every ZeroMQ
//! engine.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use crate::{
    peer::{PeerId, Verified},
    transport::{Event, ReplyTo},
    util::fair_share::Lease,
};

/// The longest envelope that is accepted, in bytes. An identity has at most 255 bytes, and usually
/// 5, so that this is enough for many proxies. The envelope of a request is kept until the request
/// has ended, and that of a hello until the connection has ended.
const MAX_ENVELOPE: usize = 1_024;

/// Makes a return address from an envelope, whose first frame is the identity of the peer.
#[cfg(test)]
pub(super) fn address(frames: VecDeque<Bytes>) -> ReplyTo {
    reply_to(frames, None)
}

/// Makes a return address from an envelope, whose first frame is the identity of the peer, about
/// which the engine has `verified` something.
fn reply_to(frames: VecDeque<Bytes>, verified: Option<Arc<Verified>>) -> ReplyTo {
    ReplyTo::new(PeerId::new(frames[0].clone(), verified), frames)
}

/// Puts `body` behind the envelope. The returned frames are ready to be sent. They hold `lease`
/// until the engine drops the body, after it has written it.
pub(super) fn frames_to(reply_to: ReplyTo, body: Bytes, lease: Lease) -> VecDeque<Bytes> {
    let mut frames = match Arc::try_unwrap(reply_to.0) {
        Ok(origin) => origin.frames,
        Err(shared) => shared.frames.clone(),
    };
    frames.push_back(holding(body, lease));
    frames
}

/// Returns the same bytes, which hold `lease` until their last clone is dropped.
fn holding(body: Bytes, lease: Lease) -> Bytes {
    struct Held {
        body: Bytes,
        _lease: Lease,
    }
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.body
        }
    }
    Bytes::from_owner(Held { body, _lease: lease })
}

/// Splits the frames that a ROUTER received into envelope and body. Returns `None` for frames that
/// need no answer, as from a peer that only probes the connection, and for frames that cannot be
/// answered.
pub(super) fn split(frames: VecDeque<Bytes>, verified: Option<Arc<Verified>>) -> Option<Event> {
    let event = split_any(frames, verified)?;
    let (Event::Body(reply_to, _) | Event::Malformed(reply_to, _)) = &event else {
        return Some(event);
    };
    let size: usize = reply_to.0.frames.iter().map(Bytes::len).sum();
    if size > MAX_ENVELOPE {
        tracing::debug!(size, MAX_ENVELOPE, "ignored a message whose envelope is too long");
        return None;
    }
    Some(event)
}

/// Splits frames as [`split`] does, with an envelope of any length.
fn split_any(mut frames: VecDeque<Bytes>, verified: Option<Arc<Verified>>) -> Option<Event> {
    let delimiter = frames.iter().skip(1).position(Bytes::is_empty).map(|position| position + 1);
    let bodies = match delimiter {
        Some(delimiter) => frames.len() - delimiter - 1,
        None => usize::from(frames.len() > 1),
    };
    match (bodies, delimiter) {
        (1, _) => {
            let body = frames.pop_back()?;
            Some(Event::Body(reply_to(frames, verified), body))
        }
        (0, Some(delimiter)) if delimiter > 1 => {
            Some(Event::Malformed(reply_to(frames, verified), "no body follows the empty frame"))
        }
        (0, _) => None,
        (_, delimiter) => {
            frames.truncate(delimiter? + 1);
            Some(Event::Malformed(
                reply_to(frames, verified),
                "more than one frame follows the empty one",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::fair_share::{Share, SharedLimit};

    fn frames(frames: &[&'static str]) -> VecDeque<Bytes> {
        frames.iter().map(|frame| Bytes::from_static(frame.as_bytes())).collect()
    }

    #[test]
    fn envelope_ends_with_the_first_empty_frame() {
        for envelope in
            [vec!["id", ""], vec!["id", "1234", ""], vec!["proxy", "id", "1234", ""], vec!["id"]]
        {
            let mut all = envelope.clone();
            all.push("body");
            let Some(Event::Body(found, body)) = split(frames(&all), None) else {
                panic!("{all:?}")
            };
            assert_eq!(found, ReplyTo::of(&envelope));
            assert_eq!(body, "body");
            assert_eq!(found.peer().as_bytes(), envelope[0].as_bytes());
            let limit = Arc::new(SharedLimit::new(1, 1));
            let lease = Share::new(&limit).acquire(1).unwrap();
            let sent = frames_to(found, body, lease);
            assert_eq!(sent, frames(&all));
            assert_eq!(limit.taken(), 1);
            drop(sent);
            assert_eq!(limit.taken(), 0, "the engine has dropped the body");
        }
    }

    #[test]
    fn without_delimiter_the_last_frame_is_the_body() {
        let event = split(frames(&["id", "forwarded", "body"]), None);
        let reply_to = ReplyTo::of(&["id", "forwarded"]);
        assert_eq!(event, Some(Event::Body(reply_to, Bytes::from_static(b"body"))));
    }

    #[test]
    fn probe_is_ignored() {
        assert_eq!(split(frames(&["id", ""]), None), None);
        assert_eq!(split(frames(&["id"]), None), None);
        assert_eq!(split(frames(&[]), None), None);
    }

    #[test]
    fn long_envelope_is_ignored() {
        let long = |len| frames(&["id", "x".repeat(len).leak(), "", "body"]);
        assert!(matches!(split(long(MAX_ENVELOPE - 2), None), Some(Event::Body(..))));
        assert_eq!(split(long(MAX_ENVELOPE - 1), None), None);
        let mut many = frames(&["id"]);
        many.extend(frames(&["y"; MAX_ENVELOPE]));
        many.extend(frames(&["", ""]));
        assert_eq!(split(many, None), None);
    }

    #[test]
    fn empty_body_is_a_body() {
        let event = split(frames(&["id", "", ""]), None);
        assert_eq!(event, Some(Event::Body(ReplyTo::of(&["id", ""]), Bytes::new())));
    }

    #[test]
    fn missing_and_surplus_bodies_can_be_answered() {
        let missing = split(frames(&["id", "1234", ""]), None);
        let Some(Event::Malformed(reply_to, _)) = missing else { panic!() };
        assert_eq!(reply_to, ReplyTo::of(&["id", "1234", ""]));
        let surplus = split(frames(&["id", "", "body", "more"]), None);
        let Some(Event::Malformed(reply_to, _)) = surplus else { panic!() };
        assert_eq!(reply_to, ReplyTo::of(&["id", ""]));
    }
}
