//! The queues of a service: one for requests, and one for those that nobody could handle.

use lapin::{
    Consumer, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, LongString},
};

use super::{broker::Broker, short};
use crate::{endpoint::amqp::AmqpAddress, transport::TransportError};

/// The number of messages that the dead-letter queue keeps. The oldest ones make room.
const DEAD_LETTERS: u32 = 10_000;
/// The reasons for which a message becomes a dead letter. One that has expired is no longer of
/// interest to anybody.
const REASONS: [&str; 2] = ["rejected", "delivery_limit"];

/// Declares the queues, and begins to consume requests.
pub(super) async fn consume(
    broker: &Broker,
    address: &AmqpAddress,
) -> Result<Consumer, TransportError> {
    let AmqpAddress { queue, prefetch, max_length, delivery_limit, .. } = address;
    let dead = format!("{queue}.dead");
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    declare_dead_letters(broker, &dead, durable).await?;
    let arguments = table([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongUInt(*delivery_limit)),
        ("x-dead-letter-exchange", text(&dead)),
        ("x-max-length", AMQPValue::LongUInt(*max_length)),
        ("x-overflow", text("reject-publish")),
    ]);
    broker.declare(queue, durable, arguments).await?;
    let qos = broker.channel.basic_qos(*prefetch, BasicQosOptions::default());
    qos.await.map_err(|error| broker.explain(error))?;
    broker.consume(queue, BasicConsumeOptions::default()).await
}

/// Declares the queue of dead letters, and an exchange of the same name that chooses them by the
/// reason.
async fn declare_dead_letters(
    broker: &Broker,
    name: &str,
    durable: QueueDeclareOptions,
) -> Result<(), TransportError> {
    let arguments = table([
        ("x-queue-type", text("quorum")),
        ("x-max-length", AMQPValue::LongUInt(DEAD_LETTERS)),
    ]);
    broker.declare(name, durable, arguments).await?;
    let channel = &broker.channel;
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared = channel.exchange_declare(
        short(name),
        ExchangeKind::Headers,
        options,
        FieldTable::default(),
    );
    declared.await.map_err(|error| broker.explain(error))?;
    for reason in REASONS {
        let matches =
            table([("x-match", text("all-with-x")), ("x-first-death-reason", text(reason))]);
        let options = QueueBindOptions::default();
        let bound = channel.queue_bind(short(name), short(name), short(""), options, matches);
        bound.await.map_err(|error| broker.explain(error))?;
    }
    Ok(())
}

/// Makes the arguments of a queue.
pub(super) fn table<const N: usize>(arguments: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(short(name), value);
    }
    table
}

pub(super) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}
