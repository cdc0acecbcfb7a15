//! Streams beside others, and between peers of which one leaves, breaks the rules, or reads nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rpc_core::{Client, ErrorKind, Ran, remote};
use tests::{RawClient, RawServer, soon};

use crate::{
    functions::{Made, add, builder},
    streams::{collect, endless, squares},
};

/// The greeting of a server that has streams.
const STREAMS: &[u8] = b"\x82\xb0max_message_size\xcd\xff\xff\xaccapabilities\x91\xa7streams";

/// Makes a server by hand, whose greeting is `welcome`, and a client of it. Returns the identity of
/// the client too.
async fn welcomed(welcome: &[u8]) -> (RawServer, Client, Bytes) {
    let mut peer = RawServer::bind().await;
    let client = tests::client().connect_lazy(&peer.endpoint).unwrap();
    let [identity, _, hello] = peer.recv().await;
    peer.send(&identity, &[b"\x94\x01", &hello[2..7], b"\xc0", welcome].concat()).await;
    (peer, client, identity)
}

#[tokio::test]
async fn lost_connection_ends_a_stream_that_has_begun() {
    let (mut peer, client, identity) = welcomed(STREAMS).await;
    // The function is idempotent, and yet it is not called again.
    let mut items = squares::call(&client, 10);
    let two = tokio::spawn(async move { ([items.next().await, items.next().await], items) });
    let request = peer.recv().await[2].clone();
    let item = [b"\x93\x02\xa8rpc.item\x92", &request[2..7], b"\x05"].concat();
    peer.send(&identity, &item).await;
    // An item of another call, and one of none.
    for wrong in
        [&b"\x93\x02\xa8rpc.item\x92\xce\xff\xff\xff\xff\x05"[..], b"\x93\x02\xa8rpc.item\x90"]
    {
        peer.send(&identity, wrong).await;
    }
    peer.send(&identity, &item).await;
    let (two, items) = soon("two items", two).await.unwrap();
    assert_eq!(two.map(|item| item.unwrap().unwrap()), [5, 5]);
    drop(peer);
    let (more, error) = soon("the stream ends", collect_until_error(items)).await;
    assert!(more.is_empty(), "{more:?}");
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::Yes), "{error}");
    assert!(error.message().contains("2 items had come"), "{error}");
    client.close().await;
}

#[tokio::test]
async fn refusal_that_comes_with_items_ends_a_stream_after_them() {
    let (mut peer, client, identity) = welcomed(STREAMS).await;
    let items = tokio::spawn(collect_until_error(squares::call(&client, 10)));
    let request = peer.recv().await[2].clone();
    let item = [b"\x93\x02\xa8rpc.item\x93", &request[2..7], b"\x05\x06"].concat();
    // A call that has no items yet is made again after this error.
    let error = b"\x82\xa4code\xaaoverloaded\xa7message\xa4full\xc0";
    let error = [b"\x94\x01", &request[2..7], error].concat();
    let bin = |message: &[u8]| [&[0xc4, u8::try_from(message.len()).unwrap()], message].concat();
    peer.send(&identity, &[b"\x93\x03", &*bin(&item), &bin(&error)].concat()).await;
    let (received, error) = soon("the stream ends", items).await.unwrap();
    assert_eq!(received, [5, 6]);
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Overloaded, Ran::Yes), "{error}");
    client.close().await;
}

async fn collect_until_error(
    mut items: rpc_core::Streaming<squares>,
) -> (Vec<u64>, rpc_core::RpcError) {
    let mut received = Vec::new();
    loop {
        match items.next().await {
            Some(Ok(item)) => received.push(item),
            Some(Err(error)) => return (received, error),
            None => panic!("it has ended after {received:?}"),
        }
    }
}

#[tokio::test]
async fn server_that_exceeds_its_credit_is_not_listened_to() {
    let (mut peer, client, identity) = welcomed(STREAMS).await;
    let mut items = squares::call(&client, 10).window(20);
    let first = tokio::spawn(async move { (items.next().await, items) });
    let request = peer.recv().await[2].clone();
    let item = [b"\x93\x02\xa8rpc.item\x92", &request[2..7], b"\x05"].concat();
    for _ in 0..10 {
        peer.send(&identity, &item).await;
    }
    let (first, mut items) = soon("an item", first).await.unwrap();
    assert_eq!(first.unwrap().unwrap(), 5);
    let error = loop {
        match soon("an item", items.next()).await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.message().contains("more items than"), "{error}");
    client.close().await;
}

#[tokio::test]
async fn server_without_streams_is_not_asked() {
    let welcome = b"\x81\xb0max_message_size\xcd\xff\xff";
    let (_peer, client, _) = welcomed(welcome).await;
    let error = soon("the error", squares::call(&client, 1).next()).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Protocol, Ran::No), "{error}");
    assert!(error.message().contains("knows no streams"), "{error}");
    client.close().await;
}

/// Asks for `endless(65536)` with all the credit that there can be, as the call `id`.
fn endless_request(id: u32) -> Vec<u8> {
    let mut request = b"\x95\x00\xce".to_vec();
    request.extend_from_slice(&id.to_be_bytes());
    request.extend_from_slice(b"\xa7endless\x81\xa6stream\xcf");
    request.extend_from_slice(&(u64::MAX / 2).to_be_bytes());
    request.extend_from_slice(b"\x91\xce\x00\x01\x00\x00");
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_items_are_bounded_and_leave_room_for_replies() {
    const UNREAD: usize = 8 * 1024 * 1024;
    const SIZE: usize = 65_536;
    const STREAMS: u32 = 500;
    let made = Arc::<Made>::default();
    let server = builder(&Arc::default()).shared_state(Arc::clone(&made)).workers(2);
    let server = server.max_unread_bytes(UNREAD).max_message_size(1024 * 1024);
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let mut stuck = RawClient::connect(server.endpoint()).await;
    for id in 1..=STREAMS {
        stuck.send(&[b"", &endless_request(id)]).await;
    }
    // The functions come to rest, because the peer reads nothing.
    let rest = async {
        let mut before = usize::MAX;
        loop {
            let now = made.items.load(Ordering::SeqCst);
            if now == before && now > 0 {
                return now;
            }
            before = now;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let before = soon("the functions rest", rest).await;
    assert!(before * SIZE < 64 * 1024 * 1024, "{before} items");
    // Others are served, and have streams.
    let mut items = endless::call(&client, 10);
    for _ in 0..1_000 {
        soon("another's item", items.next()).await.unwrap().unwrap();
    }
    drop(items);
    // The answer to a ping follows what is there, and every stream goes on.
    stuck.send(&[b"", b"\x94\x00\x00\xa8rpc.ping\x90"]).await;
    let (mut counts, mut answered) = (vec![0; STREAMS as usize + 1], false);
    let all = async {
        while !answered || counts[1..].iter().any(|count| *count < 2) {
            let body = stuck.recv().await.pop().unwrap();
            match body.as_ref() {
                [0x94, 1, ..] => answered = true,
                [0x93, 2, ..] if body.len() > SIZE => {
                    let id = u32::from_be_bytes(body[15..19].try_into().unwrap());
                    counts[id as usize] += 1;
                }
                other => panic!("{:x?}", &other[..other.len().min(40)]),
            }
        }
    };
    soon("all streams go on", all).await;
    drop(stuck);
    let dropped = async {
        while made.dropped.load(Ordering::SeqCst) < STREAMS as usize {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon("the functions are dropped", dropped).await;
    client.close().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_errors_of_streams_leave_replies_to_others() {
    const ERRORS: usize = 20_000;
    let server = builder(&Arc::default()).max_unread_bytes(4 * 1024 * 1024);
    let server = server.max_message_size(10_000).bind("tcp://127.0.0.1:0").await.unwrap();
    let server = server.spawn().unwrap();
    let mut stuck = Vec::new();
    for _ in 0..3 {
        let mut peer = RawClient::connect(server.endpoint()).await;
        for _ in 0..ERRORS {
            peer.send(&[b"", b"\x95\x00\x01\xa6halves\x81\xa6stream\x01\x91\x90"]).await;
        }
        stuck.push(peer);
    }
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    assert_eq!(soon("another's call", add::call(&client, 1, 2)).await.unwrap(), 3);
    let items = soon("another's stream", collect(squares::call(&client, 3))).await.unwrap();
    assert_eq!(items, [0, 1, 4]);
    drop(stuck);
    client.close().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_read_fast_leave_the_server_to_others() {
    let made = Arc::<Made>::default();
    let server = builder(&Arc::default()).shared_state(Arc::clone(&made)).workers(2);
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut peer = RawClient::connect(server.endpoint()).await;
        for id in 1..=2 {
            peer.send(&[b"", &endless_request(id)]).await;
        }
        let received = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&received);
        let reading = tokio::spawn(async move {
            loop {
                peer.recv().await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        readers.push((received, reading));
    }
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    for n in 0..100 {
        let sum = add::call(&client, n, 1).timeout(Duration::from_secs(20)).await;
        assert_eq!(sum.unwrap(), n + 1);
    }
    for (received, reading) in readers {
        assert!(received.load(Ordering::Relaxed) > 0);
        reading.abort();
    }
    let dropped = async {
        while made.dropped.load(Ordering::SeqCst) < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon("the functions are dropped", dropped).await;
    client.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn item_that_exceeds_the_limit_of_its_caller_ends_the_stream() {
    let server = builder(&Arc::default()).shared_state(Arc::<Made>::default());
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().max_message_size(10_000).connect(server.endpoint());
    let client = client.await.unwrap();
    let error = soon("the error", endless::call(&client, 40_000).next()).await.unwrap();
    let error = error.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { limit: 10_000, .. }), "{error}");
    assert_eq!(error.ran(), Ran::Yes);
    assert_eq!(endless::call(&client, 5_000).next().await.unwrap().unwrap().len(), 5_000);
    client.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn reader_that_always_has_an_item_lets_other_tasks_run() {
    let server = builder(&Arc::default()).shared_state(Arc::<Made>::default());
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let ticks = tokio::spawn(async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut items = endless::call(&client, 10);
    let mut count = 0;
    while !ticks.is_finished() {
        items.next().await.unwrap().unwrap();
        std::thread::sleep(Duration::from_micros(20));
        count += 1;
        assert!(count < 50_000, "the other task does not run");
    }
    drop(items);
    client.close().await;
    server.shutdown().await;
}

/// The declaration of a client that has another version of `add`.
#[remote(name = "add", type = AddStream)]
fn add_stream(a: i64, b: i64) -> impl Iterator<Item = i64> + Send;

#[tokio::test]
async fn value_is_no_stream() {
    let server = builder(&Arc::default()).bind("tcp://127.0.0.1:0").await.unwrap();
    let server = server.spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let error = soon("the end", AddStream::call(&client, 1, 2).next()).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Protocol, Ran::Yes), "{error}");
    assert!(error.message().contains("one value there, and no stream"), "{error}");
    client.close().await;
    server.shutdown().await;
}
