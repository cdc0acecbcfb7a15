//! Messages from programs that use AMQP and not this library, among them hostile ones.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    options::{BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use rpc_core::{CallError, Client, ErrorKind, Ran};
use tests::{
    ledger::Ledger,
    served::{echo, numbers, sum, take},
    soon,
};

use crate::{BROKER, server, until};

fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap()
}

/// A program that publishes raw messages.
struct Raw {
    _connection: Connection,
    channel: Channel,
    queue: String,
}

impl Raw {
    async fn connect(endpoint: &str) -> Self {
        let (url, queue) = endpoint.split_once("?queue=").unwrap();
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self { _connection: connection, channel, queue: queue.to_owned() }
    }

    /// Declares a queue for replies, and consumes it. Returns its name as well.
    async fn replies(&self) -> (Consumer, ShortString) {
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(short(""), options, FieldTable::default());
        let queue = declared.await.unwrap().name().clone();
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer =
            self.channel.basic_consume(queue.clone(), short(""), options, FieldTable::default());
        (consumer.await.unwrap(), queue)
    }

    async fn publish(&self, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions::default();
        let published =
            self.channel.basic_publish(short(""), short(&self.queue), options, body, properties);
        published.await.unwrap();
    }

    /// Returns the number of dead letters.
    async fn dead(&self) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let name = short(&format!("{}.dead", self.queue));
        let declared = self.channel.queue_declare(name, passive, FieldTable::default());
        declared.await.unwrap().message_count()
    }

    /// Removes a dead letter, and returns its body.
    async fn take_dead(&self) -> Vec<u8> {
        let name = short(&format!("{}.dead", self.queue));
        let got = self.channel.basic_get(name, BasicGetOptions { no_ack: true });
        got.await.unwrap().expect("there is a dead letter").delivery.data
    }
}

fn plain() -> BasicProperties {
    BasicProperties::default()
}

const SUM: &[u8] = b"\x94\x00\x07\xa3sum\x92\x02\x03";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn streams_are_refused_or_come_as_one_array() {
    let endpoint = BROKER.endpoint();
    let _server = server(&endpoint, &[]);
    let client = Client::connect(&endpoint).await.unwrap();
    let result = soon("an item", numbers::call(&client, 2, 3).next()).await.unwrap().unwrap_err();
    let argument = soon("the result", take::call(&client, 2, stream::iter([2, 3])).into_future());
    let Err(CallError::Rpc(argument)) = argument.await else { panic!("there are no streams") };
    for error in [result, argument] {
        assert_eq!((error.kind(), error.ran()), (ErrorKind::Protocol, Ran::No), "{error}");
        assert!(error.message().contains("knows no streams"), "{error}");
    }
    let raw = Raw::connect(&endpoint).await;
    let (mut replies, queue) = raw.replies().await;
    let asked = plain().with_reply_to(queue);
    let options: &[u8] = b"\x81\xa6stream\xcd\xff\xff";
    for (call, params, expected) in [
        (&b"\x95\x00\x07\xa7numbers"[..], &b"\x92\x02\x03"[..], &b"\xc0\x93\x02\x03\x04"[..]),
        (b"\x95\x00\x08\xa4take", b"\x92\x02\x92\x02\x03", b"\xc0\x02"),
        (b"\x95\x00\x09\xa4take", b"\x92\x02\xc0", b"bad_arguments"),
    ] {
        raw.publish(&[call, options, params].concat(), asked.clone()).await;
        let reply = soon("a reply", replies.next()).await.unwrap().unwrap().data;
        let found = reply.windows(expected.len()).any(|part| part == expected);
        assert!(reply[1] == 1 && found, "{}", String::from_utf8_lossy(&reply));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn plain_client_gets_its_reply() {
    let endpoint = BROKER.endpoint();
    let _server = server(&endpoint, &[]);
    let raw = Raw::connect(&endpoint).await;
    let (mut replies, queue) = raw.replies().await;
    let asked = plain().with_reply_to(queue).with_correlation_id(short("mine"));
    for id in [7, 8] {
        let mut request = SUM.to_vec();
        request[2] = id;
        raw.publish(&request, asked.clone()).await;
        let reply = soon("a reply", replies.next()).await.unwrap().unwrap();
        assert_eq!(reply.data, [0x94, 1, 0xce, 0, 0, 0, id, 0xc0, 5]);
        assert_eq!(reply.properties.correlation_id().as_ref().unwrap().as_str(), "mine");
    }
    // It has no window, because nobody would notice that it has gone.
    raw.publish(b"\x94\x00\x01\xa9rpc.hello\x91\x81\xaccapabilities\x91\xa7windows", asked.clone())
        .await;
    let reply = soon("a reply", replies.next()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&reply.data).into_owned();
    assert!(text.contains("instance") && !text.contains("number"), "{text}");
    // What cannot be understood is answered as over a socket, and kept.
    raw.publish(b"\x94\x00\x09\xa3sum\x07", asked.clone()).await;
    let reply = soon("a reply", replies.next()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&reply.data).contains("bad_request"), "{:?}", reply.data);
    until("it is a dead letter", async || raw.dead().await == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn what_is_no_call_becomes_a_dead_letter() {
    let endpoint = BROKER.endpoint();
    let _server = server(&endpoint, &["--max-message-size", "10000"]);
    let raw = Raw::connect(&endpoint).await;
    let client = Client::connect(&endpoint).await.unwrap();
    let large = [&b"\x93\x02\xa4echo\x91\xc5\x4e\x20"[..], &vec![0; 20_000]].concat();
    let forged = plain().with_reply_to(short("amq.rabbitmq.reply-to.g1h2AA5yZXBseUA.foo=="));
    let cases: [(&str, &[u8], BasicProperties); 7] = [
        ("garbage", b"hello", plain()),
        ("nothing", b"", plain()),
        ("a request without an address", SUM, plain()),
        ("a request with a forged address", SUM, forged),
        ("a response", b"\x94\x01\x07\xc0\x05", plain()),
        ("an unknown notification", b"\x93\x02\xa7no_such\x90", plain()),
        ("a notification that is too large", &large, plain()),
    ];
    for (at, (what, body, properties)) in (1..).zip(cases) {
        raw.publish(body, properties).await;
        until(what, async || raw.dead().await == at).await;
        assert_eq!(sum::call(&client, 1, 2).await.unwrap(), 3, "after {what}");
    }
    assert_eq!(raw.take_dead().await, b"hello");
    // A reply to a queue that does not exist is dropped.
    raw.publish(SUM, plain().with_reply_to(short("no-such-queue"))).await;
    // One that is sent to the service itself is no call.
    let own = short(endpoint.split_once("?queue=").unwrap().1);
    raw.publish(SUM, plain().with_reply_to(own)).await;
    until("its reply is a dead letter", async || raw.dead().await == 7).await;
    let long = bytes::Bytes::from(vec![0; 20_000]);
    let error = echo::call(&client, long).await.unwrap_err();
    assert!(error.to_string().contains("10000"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn poison_message_becomes_a_dead_letter() {
    let endpoint = format!("{}&delivery_limit=2", BROKER.endpoint());
    let mut poisoned = server(&endpoint, &[]);
    let client = Client::connect(&endpoint).await.unwrap();
    let call = client.call_dynamic::<()>("die", ()).timeout(Duration::from_secs(60));
    let call = tokio::spawn(call.into_future());
    for _ in 0..3 {
        soon("the server dies", poisoned.ended()).await;
        poisoned.restart();
    }
    assert_eq!(sum::call(&client, 1, 2).await.unwrap(), 3);
    let raw = Raw::connect(endpoint.split_once('&').unwrap().0).await;
    until("it is a dead letter", async || raw.dead().await == 1).await;
    call.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn notification_from_a_plain_client_runs() {
    let (endpoint, ledger) = (BROKER.endpoint(), Ledger::new());
    let _server = server(&endpoint, &["--ledger", ledger.path()]);
    let raw = Raw::connect(&endpoint).await;
    raw.publish(b"\x93\x02\xa5count\x92\x05\x00", plain()).await;
    until("it runs", async || ledger.executions() == [(5, 1)].into()).await;
    assert_eq!(raw.dead().await, 0);
}
