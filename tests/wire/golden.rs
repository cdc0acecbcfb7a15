//! Compares every kind of message with the bytes in `messages.golden`. A difference is a change of
//! the protocol. If the change is intended, update PROTOCOL.md, the bytes and the code together.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{FutureExt, stream};
use tests::{Gate, RawClient, RawServer, soon};

use crate::{add, half, numbers, server, total};

/// Compares messages with the file. Collects the differences, so that one run shows all of them.
struct Golden {
    expected: BTreeMap<&'static str, Vec<u8>>,
    differences: Vec<String>,
}

impl Golden {
    fn load() -> Self {
        Self { expected: tests::golden::messages().into_iter().collect(), differences: Vec::new() }
    }

    fn check(&mut self, name: &str, actual: &[u8]) {
        if self.expected.remove(name).as_deref() != Some(actual) {
            self.differences.push(format!("{name}:\n    {}", show(actual)));
        }
    }

    fn finish(self) {
        assert!(self.differences.is_empty(), "these differ:\n{}", self.differences.join("\n"));
        assert!(self.expected.is_empty(), "nothing made these: {:?}", self.expected.keys());
    }
}

/// Formats bytes in the notation of the file: a run of three or more text characters becomes quoted
/// text.
fn show(bytes: &[u8]) -> String {
    let is_text = |byte: &u8| byte.is_ascii_alphanumeric() || b" _`.,;:?<>&()!/".contains(byte);
    let mut words = Vec::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let len = rest.iter().take_while(|byte| is_text(byte)).count();
        // The byte after a `str 8` marker is a length, even if it looks like a letter.
        let is_length = bytes[..bytes.len() - rest.len()].last() == Some(&0xd9);
        if len >= 3 && !is_length {
            let text = String::from_utf8_lossy(&rest[..len]);
            words.push(format!("'{}'", text.replace('_', "~").replace(' ', "_")));
            rest = &rest[len..];
        } else {
            words.push(format!("{first:02x}"));
            rest = &rest[1..];
        }
    }
    words.join(" ")
}

/// Replaces the random name of the instance by zeros.
fn without_instance(mut body: Vec<u8>) -> Vec<u8> {
    let key = b"instance\xd9\x20";
    let at = body.windows(key.len()).position(|window| window == key).expect("it has a name")
        + key.len();
    body[at..at + 32].fill(b'0');
    body
}

/// Replaces the msgid of a request. The client counts, and other calls may have come between.
fn with_id(id: u8, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body[3..7].copy_from_slice(&[0, 0, 0, id]);
    body
}

#[tokio::test]
async fn client_messages_match_golden_file() {
    let mut golden = Golden::load();
    golden.expected.retain(|name, _| name.starts_with("client_"));
    let mut peer = RawServer::bind().await;
    let client = tests::client().connect_lazy(&peer.endpoint).unwrap();
    let [identity, _, hello] = peer.recv().await;
    golden.check("client_hello", &hello);
    let id = &hello[2..7];
    let welcome = [
        b"\x94\x01",
        id,
        b"\xc0\x84\xa8protocol\x01\xa8instance\xa1x\xb0max_message_size\xcd\xff\xff",
        b"\xaccapabilities\x91\xa7streams",
    ];
    peer.send(&identity, &welcome.concat()).await;

    // A timeout that does not fit into a message is sent as the maximum that fits.
    let call = tokio::spawn(add::call(&client, 1, -1).timeout(Duration::MAX));
    golden.check("client_request", &peer.recv().await[2]);
    call.abort();
    golden.check("client_cancel", &peer.recv().await[2]);
    let answered = tokio::spawn(add::call(&client, 1, -1));
    let request = peer.recv().await[2].clone();
    peer.send(&identity, &[b"\x94\x01", &request[2..7], b"\xc0\x00"].concat()).await;
    assert_eq!(answered.await.unwrap().unwrap(), 0);
    let again = tokio::spawn(add::call(&client, 1, -1).timeout(Duration::MAX));
    golden.check("client_request_again", &with_id(2, &peer.recv().await[2]));
    let keyed = add::call(&client, 1, -1).timeout(Duration::MAX).idempotency_key("k");
    let keyed = tokio::spawn(keyed);
    golden.check("client_request_with_key", &with_id(3, &peer.recv().await[2]));
    add::notify(&client, 1, -1).await.unwrap();
    golden.check("client_notification", &peer.recv().await[2]);
    // The affinity key is not sent.
    add::notify(&client, 1, -1).affinity_key("k").await.unwrap();
    assert_eq!(peer.recv().await[2], &b"\x93\x02\xa3add\x92\x01\xff"[..]);
    let ping = tokio::spawn(client.ping().timeout(Duration::MAX));
    golden.check("client_ping", &with_id(5, &peer.recv().await[2]));
    let discover = tokio::spawn(client.discover().timeout(Duration::MAX));
    golden.check("client_discover", &with_id(6, &peer.recv().await[2]));
    let named = BTreeMap::from([("a", 1), ("b", 2)]);
    let by_name = tokio::spawn(client.call_dynamic::<i64>("add", named).timeout(Duration::MAX));
    golden.check("client_request_by_name", &with_id(7, &peer.recv().await[2]));
    let without = tokio::spawn(half::call(&client, 4, None).timeout(Duration::MAX));
    golden.check("client_request_without_none", &with_id(8, &peer.recv().await[2]));
    let with_metadata = add::call(&client, 1, -1).timeout(Duration::MAX);
    let with_metadata = with_metadata.metadata("tenant", "a").metadata_bytes("id", [0xff]);
    let with_metadata = tokio::spawn(with_metadata);
    golden.check("client_request_with_metadata", &with_id(9, &peer.recv().await[2]));
    add::notify(&client, 1, -1).metadata("tenant", "a").await.unwrap();
    golden.check("client_notification_with_metadata", &peer.recv().await[2]);
    let mut items = numbers::call(&client, 10).window(1_000);
    let items = tokio::spawn(async move {
        while let Some(item) = items.next().await {
            item.unwrap();
        }
    });
    let request = peer.recv().await[2].clone();
    golden.check("client_stream", &with_id(10, &request));
    for _ in 0..28 {
        let item = [b"\x93\x02\xa8rpc.item\x92", &request[2..7], b"\x00"].concat();
        peer.send(&identity, &item).await;
    }
    let mut credit = peer.recv().await[2].to_vec();
    credit[14] = 10;
    golden.check("client_credit", &credit);
    peer.send(&identity, &[b"\x94\x01", &request[2..7], b"\xc0\xc0"].concat()).await;
    items.await.unwrap();
    let all = tokio::spawn(total::call(&client, stream::iter([1, 2])).timeout(Duration::MAX));
    let request = peer.recv().await[2].clone();
    golden.check("client_stream_argument", &with_id(11, &request));
    let id = &request[2..7];
    peer.send(&identity, &[b"\x93\x02\xaarpc.credit\x92", id, b"\x64"].concat()).await;
    let mut items = Vec::new();
    for id_at in [18, 18, 16] {
        let mut message = peer.recv().await[2].to_vec();
        message[id_at] = 11;
        items.extend_from_slice(&message);
    }
    golden.check("client_items", &items);
    peer.send(&identity, &[b"\x94\x01", id, b"\xc0\x03"].concat()).await;
    assert_eq!(all.await.unwrap().unwrap(), 3);
    for task in [
        with_metadata.abort_handle(),
        without.abort_handle(),
        again.abort_handle(),
        keyed.abort_handle(),
        ping.abort_handle(),
        discover.abort_handle(),
        by_name.abort_handle(),
    ] {
        task.abort();
    }
    golden.finish();
}

#[tokio::test]
async fn client_asks_for_a_larger_window() {
    let mut golden = Golden::load();
    golden.expected.retain(|name, _| *name == "window_of_client");
    let mut peer = RawServer::bind().await;
    let client = tests::client().connect_lazy(&peer.endpoint).unwrap();
    let [identity, _, hello] = peer.recv().await;
    let welcome = b"\xc0\x82\xb0max_message_size\xcd\xff\xff\xa6window\x83\xa6number\x05\xa5calls\x01\xa5bytes\xcd\xff\xff";
    peer.send(&identity, &[b"\x94\x01", &hello[2..7], welcome].concat()).await;
    let first = tokio::spawn(add::call(&client, 1, -1));
    let request = peer.recv().await[2].clone();
    let second = tokio::spawn(add::call(&client, 2, -1));
    golden.check("window_of_client", &peer.recv().await[2]);
    assert!(!second.is_finished());
    // The second call is sent when the first has ended, even if the window stays as it is.
    peer.send(&identity, &[b"\x94\x01", &request[2..7], b"\xc0\x00"].concat()).await;
    assert_eq!(first.await.unwrap().unwrap(), 0);
    let request = peer.recv().await[2].clone();
    peer.send(&identity, &[b"\x94\x01", &request[2..7], b"\xc0\x01"].concat()).await;
    assert_eq!(second.await.unwrap().unwrap(), 1);
    golden.finish();
}

#[tokio::test]
async fn small_messages_are_batched_if_supported() {
    let mut golden = Golden::load();
    golden.expected.retain(|name, _| name.starts_with("batch_of_requests"));
    let mut peer = RawServer::bind().await;
    let client = tests::client().connect_lazy(&peer.endpoint).unwrap();
    // The calls wait for a connection, and are sent together as soon as there is one.
    let calls = [1, 2].map(|n| {
        let mut call = Box::pin(add::call(&client, n, -1).timeout(Duration::MAX));
        assert!(call.as_mut().now_or_never().is_none());
        call
    });
    let [identity, _, hello] = peer.recv().await;
    let welcome = b"\xc0\x83\xa8protocol\x01\xb0max_message_size\xcd\xff\xff\xa7batches\xc3";
    peer.send(&identity, &[b"\x94\x01", &hello[2..7], welcome].concat()).await;
    let mut batch = peer.recv().await[2].to_vec();
    // The hello may have taken its id before or after the calls.
    let [first_id, second_id] = [(9, 1), (55, 2)].map(|(at, id)| {
        let shown = [0xce, 0, 0, 0, id];
        batch.splice(at..at + shown.len(), shown).collect::<Vec<_>>()
    });
    golden.check("batch_of_requests", &batch);
    // The replies may also be batched, in any order and with any width of the length.
    let (first, second) =
        ([b"\x94\x01", &first_id[..], b"\xc0\x00"], [b"\x94\x01", &second_id[..], b"\xc0\x01"]);
    let replies = [&b"\x93\x03\xc4\x09"[..], &second.concat(), b"\xc6\0\0\0\x09", &first.concat()];
    peer.send(&identity, &replies.concat()).await;
    let [first, second] = calls;
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (0, 1));
    golden.finish();
}

#[tokio::test]
async fn plain_peer_messages_match_golden_file() {
    let mut golden = Golden::load();
    golden.expected.retain(|name, _| name.starts_with("plain_"));
    let mut peer = RawServer::bind().await;
    let client = tests::client().connect_lazy(&peer.endpoint).unwrap();
    let [identity, _, hello] = peer.recv().await;
    peer.send(&identity, &[b"\x94\x01", &hello[2..7], b"\xa7unknown\xc0"].concat()).await;
    let call = tokio::spawn(add::call(&client, 1, -1).metadata("tenant", "a"));
    golden.check("plain_request", &peer.recv().await[2]);
    // No cancel is sent to a plain peer: the next message is the notification.
    call.abort();
    let _ = call.await;
    add::notify(&client, 1, -1).metadata("tenant", "a").await.unwrap();
    golden.check("plain_notification", &peer.recv().await[2]);
    golden.finish();
}

#[tokio::test]
async fn server_messages_match_golden_file() {
    let mut golden = Golden::load();
    golden.expected.retain(|name, _| name.starts_with("server_"));
    let gate: Arc<Gate> = Arc::default();
    let server = server(&gate)
        .max_in_flight(2)
        .max_message_size(4_096)
        .bind("tcp://127.0.0.1:0")
        .await
        .unwrap();
    let server = server.spawn().unwrap();
    let mut peer = RawClient::connect(server.endpoint()).await;
    let mut stranger = RawClient::connect(server.endpoint()).await;

    let cases: [(&str, &[u8]); 9] = [
        ("server_response", b"\x94\x00\x07\xa3add\x92\x01\x02"),
        ("server_response_bytes", b"\x94\x00\x07\xa4echo\x91\xc4\x02\x00\xff"),
        ("server_ping", b"\x94\x00\x07\xa8rpc.ping\x90"),
        ("server_failed", b"\x94\x00\x07\xa4half\x91\x03"),
        ("server_panicked", b"\x94\x00\x07\xa5crash\x90"),
        ("server_bad_request", b"\x94\x00\x07\xa3add\x01"),
        ("server_bad_request_without_id", b"nonsense"),
        ("server_unknown_function", b"\x94\x00\x07\xa2ad\x90"),
        ("server_bad_arguments", b"\x94\x00\x07\xa3add\x91\x01"),
    ];
    for (name, body) in cases {
        golden.check(name, &peer.ask(body).await);
    }
    peer.ask(b"\x95\x00\x06\xa3add\x81\xa3key\xa1k\x92\x01\x02").await;
    let other_call = peer.ask(b"\x95\x00\x07\xa3add\x81\xa3key\xa1k\x92\x01\x03").await;
    golden.check("server_key_of_another_call", &other_call);
    let too_large = [b"\x94\x00\x07\xa4echo\x91\xc5\x10\x00".as_slice(), &[0; 4_096]].concat();
    golden.check("server_too_large", &peer.ask(&too_large).await);
    let streamed = |credit, below| {
        [b"\x95\x00\x07\xa7numbers\x81\xa6stream", &[credit][..], b"\x91", &[below]].concat()
    };
    let mut items = peer.ask(&streamed(20, 3)).await.to_vec();
    for credit in [20, 21] {
        let credit = [&b"\x93\x02\xaarpc.credit\x92\x07"[..], &[credit]].concat();
        items.extend_from_slice(&peer.ask(&credit).await);
    }
    items.extend_from_slice(&peer.recv().await[1]);
    golden.check("server_items", &items);
    let array = peer.ask(b"\x94\x00\x07\xa7numbers\x91\x03").await;
    golden.check("server_items_in_an_array", &array);
    let mut failed = peer.ask(&streamed(30, 2)).await.to_vec();
    failed.extend_from_slice(&peer.recv().await[1]);
    golden.check("server_stream_failed", &failed);
    let credit = peer.ask(b"\x94\x00\x07\xa5total\x91\xc0").await;
    golden.check("server_credit", &credit);
    peer.send(&[b"", b"\x93\x02\xa8rpc.item\x92\x07\x05"]).await;
    let total = peer.ask(b"\x93\x02\xa8rpc.item\x91\x07").await;
    golden.check("server_response_to_a_stream", &total);
    let array = peer.ask(b"\x94\x00\x07\xa5total\x91\x92\x05\x00").await;
    assert_eq!(array, total);
    let add = |id| [b"\xc4\x0a\x94\x00", &[id][..], b"\xa3add\x92\x01\x02"].concat();
    // Before the hello, the server answers each request of a batch in a message of its own.
    peer.send(&[b"", &[&b"\x93\x03"[..], &add(7), &add(8)].concat()]).await;
    for _ in 0..2 {
        assert_eq!(peer.recv().await[1].len(), 9);
    }
    golden.check(
        "server_hello",
        &without_instance(peer.ask(b"\x94\x00\x07\xa9rpc.hello\x91\x80").await.to_vec()),
    );
    let with_windows = b"\x94\x00\x07\xa9rpc.hello\x91\x81\xaccapabilities\x91\xa7windows";
    golden.check(
        "server_hello_with_window",
        &without_instance(peer.ask(with_windows).await.to_vec()),
    );
    let asks = b"\x93\x02\xaarpc.window\x91\x83\xa6number\x00\xa5calls\x02\xa5bytes\xce\x02\0\0\0";
    golden.check("server_window", &peer.ask(asks).await);
    peer.ask(b"\x94\x00\x07\xa9rpc.hello\x91\x81\xa7batches\xc3").await;
    golden.check("server_batch", &peer.ask(&[&b"\x93\x03"[..], &add(7), &add(8)].concat()).await);
    golden.check(
        "server_discover",
        &without_instance(peer.ask(b"\x94\x00\x07\xacrpc.discover\x90").await.to_vec()),
    );

    peer.send(&[b"", b"\x94\x00\x01\xa4hold\x90"]).await;
    gate.entered(1).await;
    let expired = peer.ask(b"\x95\x00\x07\xa4hold\x81\xaatimeout_ms\x01\x90").await;
    golden.check("server_deadline_exceeded", &expired);
    peer.send(&[b"", b"\x94\x00\x07\xa4hold\x90"]).await;
    golden.check("server_overloaded", &peer.ask(b"\x94\x00\x07\xa4hold\x90").await);
    golden.check("server_cancelled", &peer.ask(b"\x93\x02\xaarpc.cancel\x91\x07").await);

    let shutdown = tokio::spawn(server.shutdown());
    golden.check("server_goodbye", &peer.recv().await[1]);
    // Requests of a peer that said hello may have crossed the goodbye, and run. Others do not.
    let refused = stranger.ask(b"\x94\x00\x07\xa3add\x92\x01\x02").await;
    golden.check("server_shutting_down", &refused);
    gate.open();
    peer.recv().await;
    soon("the server ends", shutdown).await.unwrap();
    golden.finish();
}
