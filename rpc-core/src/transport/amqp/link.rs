//! The client's side: a link to the queue of a service.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use lapin::{
    BasicProperties, Channel, Confirmation, Consumer, Event,
    options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::{sync::mpsc, time};

use super::{
    BATCHES, PERSISTENT, SENT_MS,
    broker::{Broker, MAX_MESSAGE, publish},
    now_ms,
    queue::{table, text},
    short,
};
use crate::{
    endpoint::amqp::AmqpAddress,
    protocol::control::{Capabilities, PeerInfo},
    transport::{
        self, CarrierEvent, Fate, Link, LinkEvent, Posting, TransportError,
        poll_adapter::PollAdapter,
    },
};

/// The number of messages that may be published and not confirmed. Further ones wait in the client.
const MAX_UNCONFIRMED: usize = 1_024;
/// The number of messages on their way from the sending to the receiving task.
const HANDOVER: usize = 64;
/// The number of replies that may wait in the queue of a client. Further ones are refused.
const REPLY_QUEUE: u32 = 65_536;

/// A message that is to be published.
type Outgoing = (Bytes, Posting);

/// Opens a link to the queue at `address`. Fails at the latest at `by`.
pub(in crate::transport) async fn connect(
    address: &AmqpAddress,
    max_message_size: usize,
    by: Instant,
) -> Result<Link, TransportError> {
    let broker = Broker::open(address, by).await?;
    let opening = async {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        broker.declare(&address.queue, passive, FieldTable::default()).await?;
        let own = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let arguments = table([
            ("x-max-length", AMQPValue::LongUInt(REPLY_QUEUE)),
            ("x-overflow", text("reject-publish")),
        ]);
        let replies = broker.declare("", own, arguments).await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer = broker.consume(&replies, options).await?;
        Ok::<_, TransportError>((replies, consumer))
    };
    let opened = time::timeout_at(by.into(), opening).await;
    let (replies, consumer) = opened.map_err(|_| "the broker did not answer in time")??;
    let (requests, outgoing) = mpsc::channel(HANDOVER);
    let channel = Arc::clone(&broker.channel);
    let receiver = LinkReceiver {
        consumer,
        outgoing,
        unconfirmed: FuturesUnordered::new(),
        settled: VecDeque::new(),
        blocked: false,
        events: broker.events(),
        publisher: Publisher { channel, queue: Arc::from(&*address.queue), replies },
        broker,
    };
    let capabilities = Capabilities::OPTIONS.with(Capabilities::STORED, true);
    let peer = PeerInfo {
        capabilities,
        max_message_size: max_message_size.min(MAX_MESSAGE),
        max_batch: address.pack.into(),
        instance: None,
        window: None,
    };
    Ok(Link {
        sender: Box::new(LinkSender {
            requests: PollAdapter::Idle(requests),
            next: Posting::default(),
        }),
        receiver: Box::new(receiver),
        peer: Some(peer),
    })
}

/// Hands messages to the receiving task, which publishes them.
struct LinkSender {
    requests: PollAdapter<mpsc::Sender<Outgoing>, Result<(), TransportError>>,
    /// The label of the next body.
    next: Posting,
}

impl transport::LinkSender for LinkSender {
    fn label(&mut self, posting: Posting) {
        self.next = posting;
    }

    fn poll_send(
        &mut self,
        body: &mut Option<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TransportError>> {
        let begin = |requests| {
            let body = body.take().expect("the first poll has a body");
            send(requests, (body, std::mem::take(&mut self.next)))
        };
        self.requests.poll(begin, cx)
    }
}

async fn send(
    requests: mpsc::Sender<Outgoing>,
    message: Outgoing,
) -> (mpsc::Sender<Outgoing>, Result<(), TransportError>) {
    let sent = requests.send(message).await.map_err(|_| "the link has ended".into());
    (requests, sent)
}

/// Publishes requests, and receives replies.
struct LinkReceiver {
    consumer: Consumer,
    outgoing: mpsc::Receiver<Outgoing>,
    /// The messages that were published, with their tags.
    unconfirmed: FuturesUnordered<BoxFuture<'static, (u64, Result<Confirmation, lapin::Error>)>>,
    /// The events that were not reported yet.
    settled: VecDeque<CarrierEvent>,
    /// True if the broker takes no messages for now.
    blocked: bool,
    events: BoxStream<'static, Event>,
    publisher: Publisher,
    /// It is dropped last, because it closes the connection.
    broker: Broker,
}

struct Publisher {
    channel: Arc<Channel>,
    queue: Arc<str>,
    /// The name of the queue of replies.
    replies: String,
}

impl Publisher {
    /// Makes the properties of a message. `expires` is the time after which the broker drops it.
    fn properties(&self, tag: u64, expires: Option<Duration>) -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert(short(SENT_MS), AMQPValue::LongLongInt(now_ms()));
        headers.insert(short(BATCHES), AMQPValue::Boolean(true));
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_reply_to(short(&self.replies))
            .with_correlation_id(short(&tag.to_string()))
            .with_headers(headers);
        match expires {
            Some(expires) => properties.with_expiration(short(&expires.as_millis().to_string())),
            None => properties,
        }
    }

    fn publish(
        &self,
        body: Bytes,
        tag: u64,
        expires: Option<Duration>,
    ) -> BoxFuture<'static, (u64, Result<Confirmation, lapin::Error>)> {
        let (channel, queue) = (Arc::clone(&self.channel), Arc::clone(&self.queue));
        let properties = self.properties(tag, expires);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        async move { (tag, publish(&channel, &queue, &body, options, properties).await) }.boxed()
    }
}

impl LinkReceiver {
    /// Publishes what was handed over.
    fn publish(&mut self, cx: &mut Context<'_>) {
        while !self.blocked
            && self.unconfirmed.len() < MAX_UNCONFIRMED
            && let Poll::Ready(Some((body, Posting { tag, deadline }))) =
                self.outgoing.poll_recv(cx)
        {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                self.settled.push_back(CarrierEvent::Settled { tag, fate: Fate::Expired });
                continue;
            }
            self.unconfirmed.push(self.publisher.publish(body, tag, left));
        }
    }

    /// Notes what the broker has confirmed.
    fn settle(&mut self, cx: &mut Context<'_>) -> Result<(), TransportError> {
        while let Poll::Ready(Some((tag, confirmed))) = self.unconfirmed.poll_next_unpin(cx) {
            let queue = &self.publisher.queue;
            let fate = match confirmed.map_err(|error| self.broker.explain(error))? {
                Confirmation::Ack(None) | Confirmation::NotRequested => Fate::Stored,
                Confirmation::Ack(Some(_)) => Fate::Returned(format!(
                    "the broker has no queue `{queue}` any more: a server makes it when it binds"
                )),
                Confirmation::Nack(_) => Fate::Refused(format!("the queue `{queue}` is full")),
            };
            self.settled.push_back(CarrierEvent::Settled { tag, fate });
        }
        Ok(())
    }

    /// Notes whether the broker takes messages.
    fn watch(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(event)) = self.events.poll_next_unpin(cx) {
            let reason = match event {
                Event::ConnectionBlocked(reason) => Some(reason),
                Event::ConnectionUnblocked => None,
                _ => continue,
            };
            self.blocked = reason.is_some();
            self.settled.push_back(CarrierEvent::Blocked(reason));
        }
    }
}

impl transport::LinkReceiver for LinkReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<LinkEvent, TransportError>> {
        self.watch(cx);
        self.settle(cx)?;
        self.publish(cx);
        // The new ones are polled once, so that they are sent and wake this task.
        self.settle(cx)?;
        if let Some(event) = self.settled.pop_front() {
            return Poll::Ready(Ok(LinkEvent::Carrier(Box::new(event))));
        }
        let delivery = ready!(self.consumer.poll_next_unpin(cx));
        match delivery {
            Some(Ok(delivery)) => Poll::Ready(Ok(LinkEvent::Body(delivery.data.into()))),
            Some(Err(error)) => Poll::Ready(Err(self.broker.explain(error))),
            None => Poll::Ready(Err("the broker has ended the queue of replies".into())),
        }
    }
}
