//! A message that the broker has delivered to a server, until it is settled.

use std::{
    any::Any,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use lapin::{message::Delivery, types::AMQPValue};
use tokio::sync::mpsc;

use super::{BATCHES, DIRECT_REPLY, header, unsettled::Verdict, waited};
use crate::{
    peer::PeerId,
    transport::{self, ReplyTo},
};

/// The time for which a request may be on its way after it was taken from the queue.
const SLACK: Duration = Duration::from_secs(5);

/// A delivery whose last address was dropped.
#[derive(Debug)]
pub(super) struct Settled {
    /// The number of the connection on which it came.
    pub(super) generation: u64,
    pub(super) number: u64,
    pub(super) verdict: Verdict,
}

/// The facts about a delivery that its addresses share. It is settled when it is dropped.
#[derive(Debug)]
pub(super) struct Delivered {
    generation: u64,
    number: u64,
    arrived: Instant,
    /// The time that it has waited before it arrived.
    waited: Duration,
    /// The queue of the requester. `None` if it wants no reply, or names a queue that it may not.
    reply_queue: Option<String>,
    /// The name that a client which is not ours gives to its request.
    correlation_id: Option<String>,
    /// True if the requester takes batches.
    batches: bool,
    rejected: AtomicBool,
    settle: mpsc::UnboundedSender<Settled>,
}

impl Delivered {
    pub(super) fn new(
        delivery: &Delivery,
        generation: u64,
        settle: mpsc::UnboundedSender<Settled>,
    ) -> Self {
        let properties = &delivery.properties;
        let text = |text: &Option<lapin::types::ShortString>| {
            text.as_ref().map(|text| text.as_str().to_owned())
        };
        let reply_queue = text(properties.reply_to());
        Self {
            generation,
            number: delivery.delivery_tag,
            arrived: Instant::now(),
            waited: waited(properties),
            reply_queue: reply_queue
                .filter(|queue| !queue.is_empty() && !queue.starts_with(DIRECT_REPLY)),
            correlation_id: text(properties.correlation_id()),
            batches: matches!(header(properties, BATCHES), Some(AMQPValue::Boolean(true))),
            rejected: AtomicBool::new(false),
            settle,
        }
    }

    /// Returns true if the request is older than the broker lets it become, by far. That takes the
    /// clock of the client for its age.
    pub(super) fn clocks_differ(&self, delivery: &Delivery) -> bool {
        let expiration = delivery.properties.expiration().as_ref();
        let expiration = expiration.and_then(|millis| millis.as_str().parse().ok());
        expiration.is_some_and(|millis| self.waited > Duration::from_millis(millis) + SLACK)
    }

    pub(super) fn into_reply_to(self) -> ReplyTo {
        let peer = self.reply_queue.clone().unwrap_or_default();
        ReplyTo::delivered(PeerId::unverified(Bytes::from(peer)), self)
    }

    /// Returns the delivery to which an address leads.
    pub(super) fn of(reply_to: &ReplyTo) -> Option<&Self> {
        (reply_to.delivery()? as &dyn Any).downcast_ref()
    }

    pub(super) fn reply_queue(&self) -> Option<&str> {
        self.reply_queue.as_deref()
    }

    pub(super) fn correlation_id(&self) -> Option<&str> {
        self.correlation_id.as_deref()
    }

    pub(super) fn takes_batches(&self) -> bool {
        self.batches
    }
}

impl transport::Delivery for Delivered {
    fn waited(&self) -> Duration {
        self.waited + self.arrived.elapsed()
    }

    fn is_answerable(&self) -> bool {
        self.reply_queue.is_some()
    }

    fn reject(&self) {
        self.rejected.store(true, Ordering::Relaxed);
    }
}

impl Drop for Delivered {
    fn drop(&mut self) {
        let rejected = *self.rejected.get_mut();
        let verdict = if rejected { Verdict::Rejected } else { Verdict::Done };
        let (generation, number) = (self.generation, self.number);
        // An error means that the listener has gone, and its connection with it.
        let _ = self.settle.send(Settled { generation, number, verdict });
    }
}
