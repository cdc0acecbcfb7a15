//! The transport for `amqp://`: a queue of a RabbitMQ broker, which stores requests until a server
//! has answered them. No other files name lapin.
//!
//! A request is published to the queue of the service, and its reply to a queue that belongs to the
//! client. Both are confirmed by the broker, and a request is acknowledged once its reply was
//! confirmed. So a request whose server dies is delivered to another one: it runs at least once.
//!
//! lapin's own recovery is not used: a connection that fails is replaced.

mod broker;
mod delivery;
pub(super) mod link;
pub(super) mod listener;
mod queue;
mod session;
mod unsettled;

use std::time::{Duration, SystemTime};

use lapin::{
    BasicProperties,
    types::{AMQPValue, ShortString},
};

/// The header with the time at which a message was sent, in milliseconds since 1970.
const SENT_MS: &str = "rpc-sent-ms";
/// The header that says that the sender takes batches.
const BATCHES: &str = "rpc-batches";
/// The delivery mode of messages that survive a restart of the broker.
const PERSISTENT: u8 = 2;
/// The beginning of the names by which RabbitMQ answers without a queue. A forged one ends the
/// connection of whoever publishes to it.
const DIRECT_REPLY: &str = "amq.rabbitmq.";

/// Returns the time in milliseconds since 1970.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Returns the time for which a message has waited since it was sent, by the clocks of both sides.
fn waited(properties: &BasicProperties) -> Duration {
    let sent = match header(properties, SENT_MS) {
        Some(AMQPValue::LongLongInt(sent)) => *sent,
        _ => return Duration::ZERO,
    };
    Duration::from_millis(u64::try_from(now_ms().saturating_sub(sent)).unwrap_or(0))
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

/// Makes a name for lapin. AMQP limits its length to 255 bytes, which was checked before.
fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}
