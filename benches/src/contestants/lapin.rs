//! The cost of RabbitMQ without a framework on top: lapin, with the guarantees of this library's
//! `amqp://`. The queue is a quorum queue, messages are persistent and mandatory, requests and
//! replies are confirmed, and a request is acknowledged once its reply was confirmed.
//!
//! Nothing waits for a single confirm or acknowledgement. There are no deadlines, no reconnecting
//! and no dead letters, and any error ends the program.

use std::{collections::BTreeSet, time::Instant};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection as Broker, ConnectionProperties, Consumer,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, LongString, ShortString},
};

use crate::{
    Failure,
    contestants::{
        broker::{broker, endpoint},
        floor::{Slot, answer, decode_response, request},
        print_endpoint,
    },
    drive::{self, Load, Sampled},
    work::Input,
};

const PERSISTENT: u8 = 2;

async fn open(endpoint: &str) -> Result<(Broker, Channel), Failure> {
    let url = endpoint.split_once('?').map_or(endpoint, |(url, _)| url);
    let broker = Broker::connect(url, ConnectionProperties::default()).await?;
    let channel = broker.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((broker, channel))
}

fn queue_of(endpoint: &str) -> Result<&str, Failure> {
    Ok(endpoint.split_once("queue=").ok_or("the endpoint names a queue")?.1)
}

fn name(text: &str) -> Result<ShortString, Failure> {
    ShortString::try_new(text).map_err(|_| "a name is too long".into())
}

async fn publish(
    channel: &Channel,
    queue: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Result<(), Failure> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let published = channel.basic_publish(name("")?, name(queue)?, options, body, properties);
    match published.await?.await? {
        Confirmation::Ack(None) => Ok(()),
        other => Err(format!("a message was refused: {other:?}").into()),
    }
}

pub(crate) async fn serve() -> Result<(), Failure> {
    let endpoint = endpoint(&broker().ok_or("BENCH_BROKER names no broker")?);
    let (_broker, channel) = open(&endpoint).await?;
    let queue = queue_of(&endpoint)?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert(name("x-queue-type")?, AMQPValue::LongString(LongString::from("quorum")));
    channel.queue_declare(name(queue)?, durable, arguments).await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut requests =
        channel.basic_consume(name(queue)?, name("")?, options, FieldTable::default()).await?;
    print_endpoint(&endpoint)?;

    let mut publishing = FuturesUnordered::new();
    // The requests whose replies are confirmed, and the first one whose reply is not.
    let (mut confirmed, mut first) = (BTreeSet::new(), 1);
    loop {
        tokio::select! {
            Some(published) = publishing.next(), if !publishing.is_empty() => {
                let tag: u64 = published?;
                confirmed.insert(tag);
                let before = first;
                while confirmed.remove(&first) {
                    first += 1;
                }
                if first > before {
                    let options = BasicAckOptions { multiple: true };
                    channel.basic_ack(first - 1, options).await?;
                }
            }
            Some(request) = requests.next() => {
                let request = request?;
                let reply_to = request.properties.reply_to().clone().ok_or("no reply_to")?;
                let (channel, body) = (channel.clone(), answer(&request.data)?);
                publishing.push(async move {
                    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
                    publish(&channel, reply_to.as_str(), &body, properties).await?;
                    Ok::<_, Failure>(request.delivery_tag)
                });
            }
        }
    }
}

/// The number of requests that the server takes at a time. It is that of the library.
const PREFETCH: u16 = 64;

/// A connection with a queue of its own for replies.
pub(crate) struct Connection {
    _broker: Broker,
    channel: Channel,
    replies: Consumer,
    reply_queue: ShortString,
    queue: String,
}

impl Connection {
    pub(crate) async fn open(endpoint: &str) -> Result<Self, Failure> {
        let (broker, channel) = open(endpoint).await?;
        let own = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(name("")?, own, FieldTable::default()).await?;
        let reply_queue = declared.name().clone();
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let table = FieldTable::default();
        let replies = channel.basic_consume(reply_queue.clone(), name("")?, options, table).await?;
        let queue = queue_of(endpoint)?.to_owned();
        Ok(Self { _broker: broker, channel, replies, reply_queue, queue })
    }

    fn send(
        &self,
        id: u32,
        input: &Input,
    ) -> Result<impl Future<Output = Result<(), Failure>> + use<>, Failure> {
        let (channel, queue, body) =
            (self.channel.clone(), self.queue.clone(), request(id, input)?);
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_reply_to(self.reply_queue.clone());
        Ok(async move { publish(&channel, &queue, &body, properties).await })
    }
}

impl drive::Connection for Connection {
    /// Makes calls until the load is over, as the floor does.
    async fn run(&mut self, load: Load) -> Result<Sampled, Failure> {
        let mut sampled = Sampled::default();
        let mut slots = vec![Slot { calls: 0, start: None }; load.window];
        let mut publishing = FuturesUnordered::new();
        for id in 0..u32::try_from(load.window)? {
            slots[id as usize].begin(&load);
            publishing.push(self.send(id, &load.input)?);
        }
        let mut in_flight = load.window;
        while in_flight > 0 {
            let reply = tokio::select! {
                Some(published) = publishing.next(), if !publishing.is_empty() => {
                    published?;
                    continue;
                }
                reply = self.replies.next() => reply.ok_or("the replies have ended")??,
            };
            let (id, output) = decode_response(&reply.data, &load.input)?;
            let slot = slots.get_mut(id as usize).ok_or("a response to no request")?;
            load.input.check(&output, slot.start.is_some())?;
            sampled.latencies.extend(slot.start.map(|start: Instant| start.elapsed()));
            sampled.calls += 1;
            if load.over() {
                in_flight -= 1;
            } else {
                slot.begin(&load);
                publishing.push(self.send(id, &load.input)?);
            }
        }
        while let Some(published) = publishing.next().await {
            published?;
        }
        Ok(sampled)
    }
}
