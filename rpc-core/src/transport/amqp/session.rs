//! One connection of a server to its broker.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicNackOptions, BasicPublishOptions,
        BasicRejectOptions,
    },
};
use tokio::time;

use super::{
    PERSISTENT,
    broker::{Broker, publish},
    delivery::Delivered,
    queue, short,
    unsettled::{Settlement, Unsettled, Verdict},
};
use crate::{
    endpoint::amqp::AmqpAddress,
    protocol::batch::Batch,
    transport::{ReplyTo, TransportError},
    util::fair_share::Lease,
};

/// The number of replies that may be published and not confirmed. Further ones wait, and then share
/// messages.
const MAX_UNCONFIRMED: usize = 256;

type Acknowledging = BoxFuture<'static, Result<(), lapin::Error>>;

/// A reply that was not published yet.
pub(super) struct Reply {
    to: ReplyTo,
    body: Bytes,
    _lease: Lease,
}

impl Reply {
    pub(super) fn new(to: ReplyTo, body: Bytes, lease: Lease) -> Self {
        Self { to, body, _lease: lease }
    }
}

/// A message with replies to one client.
struct Published {
    /// They are kept until the message is confirmed: their deliveries are then settled, and their
    /// leases end.
    replies: Vec<Reply>,
    confirmed: Result<Confirmation, lapin::Error>,
}

pub(super) struct Session {
    consumer: Consumer,
    channel: Arc<Channel>,
    unsettled: Unsettled,
    publishing: FuturesUnordered<BoxFuture<'static, Published>>,
    acknowledging: Option<Acknowledging>,
    /// The request to the broker to deliver nothing more.
    cancelling: Option<Acknowledging>,
    accepting: bool,
    /// It is dropped last, because it closes the connection.
    broker: Broker,
}

impl Session {
    /// Connects, declares the queues, and begins to consume. Fails at the latest at `by`.
    pub(super) async fn open(address: &AmqpAddress, by: Instant) -> Result<Self, TransportError> {
        let broker = Broker::open(address, by).await?;
        let consuming = queue::consume(&broker, address);
        let consumer = time::timeout_at(by.into(), consuming).await;
        let consumer = consumer.map_err(|_| "the broker did not answer in time")??;
        Ok(Self {
            consumer,
            channel: Arc::clone(&broker.channel),
            unsettled: Unsettled::default(),
            publishing: FuturesUnordered::new(),
            acknowledging: None,
            cancelling: None,
            accepting: true,
            broker,
        })
    }

    /// Notes the verdict on a delivery.
    pub(super) fn decide(&mut self, number: u64, verdict: Verdict) {
        self.unsettled.decide(number, verdict);
    }

    /// Publishes replies, and drops those that the broker has confirmed.
    pub(super) fn poll_replies(
        &mut self,
        replies: &mut VecDeque<Reply>,
        cx: &mut Context<'_>,
    ) -> Result<(), TransportError> {
        loop {
            while self.publishing.len() < MAX_UNCONFIRMED
                && let Some(reply) = replies.pop_front()
            {
                self.publish(reply, replies);
            }
            // New ones are polled at once, so that they are sent and wake this task.
            let Poll::Ready(Some(Published { replies, confirmed })) =
                self.publishing.poll_next_unpin(cx)
            else {
                return Ok(());
            };
            let confirmed = confirmed.map_err(|error| self.broker.explain(error))?;
            if let (Confirmation::Nack(_), Some(Reply { to, .. })) = (confirmed, replies.first()) {
                tracing::warn!(client = ?to.peer(), "dropped a reply: its client does not read");
            }
        }
    }

    /// Publishes `reply`, and with it the next ones that are for the same client and small.
    fn publish(&mut self, first: Reply, more: &mut VecDeque<Reply>) {
        let Some(delivered) = Delivered::of(&first.to) else { return };
        let Some(queue) = delivered.reply_queue().map(str::to_owned) else { return };
        let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        if !delivered.takes_batches()
            && let Some(id) = delivered.correlation_id()
        {
            properties = properties.with_correlation_id(short(id));
        }
        let mut body = first.body.clone();
        let together = delivered.takes_batches() && Batch::suits(body.len());
        let mut replies = vec![first];
        if together {
            let mut batch = Batch::default();
            batch.begin(body.len(), more.len()).extend_from_slice(&body);
            while let Some(next) = more.front()
                && next.to.peer() == replies[0].to.peer()
                && Batch::suits(next.body.len())
                && batch.has_room(next.body.len())
                && let Some(next) = more.pop_front()
            {
                batch.begin(next.body.len(), more.len()).extend_from_slice(&next.body);
                replies.push(next);
            }
            if replies.len() > 1 {
                body = batch.take().unwrap_or(body);
            }
        }
        let channel = Arc::clone(&self.channel);
        let publishing = async move {
            // Not mandatory: a reply to a client that has gone is dropped by the broker. lapin would
            // log one that is returned, with its body.
            let options = BasicPublishOptions::default();
            let confirmed = publish(&channel, &queue, &body, options, properties).await;
            Published { replies, confirmed }
        };
        self.publishing.push(publishing.boxed());
    }

    /// Tells the broker what became of deliveries.
    pub(super) fn poll_settle(&mut self, cx: &mut Context<'_>) -> Result<(), TransportError> {
        // First, so that the broker does not deliver again here what is returned below.
        self.poll_cancelling(cx)?;
        loop {
            if self.acknowledging.is_none() {
                let Some(settlement) = self.unsettled.settle() else { return Ok(()) };
                let channel = Arc::clone(&self.channel);
                self.acknowledging = Some(acknowledge(channel, settlement).boxed());
            }
            let Some(acknowledging) = &mut self.acknowledging else { return Ok(()) };
            let Poll::Ready(acknowledged) = acknowledging.as_mut().poll(cx) else {
                return Ok(());
            };
            self.acknowledging = None;
            acknowledged.map_err(|error| self.broker.explain(error))?;
        }
    }

    fn poll_cancelling(&mut self, cx: &mut Context<'_>) -> Result<(), TransportError> {
        if let Some(cancelling) = &mut self.cancelling
            && let Poll::Ready(cancelled) = cancelling.as_mut().poll(cx)
        {
            self.cancelling = None;
            cancelled.map_err(|error| self.broker.explain(error))?;
        }
        Ok(())
    }

    /// Polls for the next delivery. Those that come after [`stop_accepting`](Self::stop_accepting)
    /// go back to the broker.
    pub(super) fn poll_deliveries(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Result<Poll<Delivery>, TransportError> {
        loop {
            let delivery = match self.consumer.poll_next_unpin(cx) {
                Poll::Ready(Some(delivery)) => {
                    delivery.map_err(|error| self.broker.explain(error))?
                }
                Poll::Ready(None) if self.accepting => {
                    return Err("the queue was deleted, or its broker is leaving".into());
                }
                Poll::Ready(None) | Poll::Pending => return Ok(Poll::Pending),
            };
            self.unsettled.add(delivery.delivery_tag);
            if self.accepting {
                return Ok(Poll::Ready(delivery));
            }
            self.unsettled.decide(delivery.delivery_tag, Verdict::Returned);
            self.poll_settle(cx)?;
        }
    }

    pub(super) fn is_accepting(&self) -> bool {
        self.accepting
    }

    /// Asks the broker to deliver nothing more.
    pub(super) fn stop_accepting(&mut self) {
        if !std::mem::take(&mut self.accepting) {
            return;
        }
        let (channel, tag) = (Arc::clone(&self.channel), self.consumer.tag());
        let cancelling =
            async move { channel.basic_cancel(tag, BasicCancelOptions::default()).await };
        self.cancelling = Some(cancelling.boxed());
    }

    /// Returns true if the broker has confirmed every reply, and was told what became of the
    /// deliveries on which there is a verdict.
    pub(super) fn is_settled(&self) -> bool {
        self.publishing.is_empty() && self.acknowledging.is_none() && self.cancelling.is_none()
    }
}

async fn acknowledge(channel: Arc<Channel>, settlement: Settlement) -> Result<(), lapin::Error> {
    let Settlement { rejected, returned, done_up_to, done } = settlement;
    for number in rejected {
        tracing::warn!(number, "a message that is no call was moved to the dead-letter queue");
        channel.basic_reject(number, BasicRejectOptions { requeue: false }).await?;
    }
    for number in returned {
        let options = BasicNackOptions { requeue: true, multiple: false };
        channel.basic_nack(number, options).await?;
    }
    if let Some(number) = done_up_to {
        channel.basic_ack(number, BasicAckOptions { multiple: true }).await?;
    }
    for number in done {
        channel.basic_ack(number, BasicAckOptions { multiple: false }).await?;
    }
    Ok(())
}
