//! Functions that take a stream as an argument.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use rpc_core::{CallError, Client, ErrorKind, Incoming, Ran, ServerHandle, remote};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use tests::{Gate, endpoints, soon};

use crate::functions::{Made, builder, count_words};

#[remote]
pub(crate) async fn total(mut numbers: Incoming<u64>) -> Result<u64, String> {
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number.map_err(|error| format!("{error:#}"))?;
    }
    Ok(sum)
}

#[remote]
fn total_sync(numbers: Incoming<u64>) -> Result<u64, String> {
    numbers.wait().map(|number| number.map_err(|error| format!("{error:#}"))).sum()
}

/// Takes a stream between other parameters.
#[remote]
async fn join(
    #[state] made: Arc<Made>,
    between: &str,
    words: Incoming<String>,
    last: u8,
) -> String {
    made.items.fetch_add(1, Ordering::SeqCst);
    let words: Vec<_> = words.map(Result::unwrap).collect().await;
    format!("{}{last}", words.join(between))
}

#[remote]
async fn total_bytes(mut chunks: Incoming<Vec<u8>>) -> u64 {
    let mut total = 0;
    while let Some(Ok(chunk)) = chunks.next().await {
        total += u64::try_from(chunk.len()).unwrap();
    }
    total
}

/// Both at once.
#[remote]
async fn double(numbers: Incoming<u64>) -> impl Stream<Item = Result<u64, String>> + Send {
    numbers.map(|number| Ok(2 * number.map_err(|error| error.to_string())?))
}

/// Both at once, on a worker.
#[remote]
fn double_sync(numbers: Incoming<u64>) -> impl Iterator<Item = u64> + Send {
    numbers.wait().map_while(Result::ok).map(|number| 2 * number)
}

/// Takes nothing, until its gate opens.
#[remote]
pub(crate) async fn lazy(#[state] gate: Arc<Gate>, numbers: Incoming<u64>) -> u64 {
    let _inside = gate.enter();
    gate.pass_async().await;
    numbers.map(Result::unwrap).count().await as u64
}

pub(crate) async fn start(endpoint: &str, gate: &Arc<Gate>) -> (ServerHandle, Client, Arc<Made>) {
    let made = Arc::<Made>::default();
    let server = builder(gate).shared_state(Arc::clone(&made)).shared_state(Arc::clone(gate));
    let server = server.bind(endpoint).await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    (server, client, made)
}

/// A stream that counts what was taken from it, and tells when it is dropped.
pub(crate) struct Counted {
    pub(crate) made: Arc<Made>,
    pub(crate) size: usize,
}

impl Stream for Counted {
    type Item = Vec<u8>;

    fn poll_next(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Vec<u8>>> {
        self.made.items.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(vec![0; self.size]))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.made.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn items_arrive_in_order_and_once() {
    for endpoint in endpoints() {
        let (server, client, _) = start(&endpoint, &Arc::default()).await;
        for count in [0, 1, 10, 50_000] {
            let expected = (0..count).sum::<u64>();
            assert_eq!(
                soon("total", total::call(&client, stream::iter(0..count))).await.unwrap(),
                expected
            );
            let sync = total_sync::call(&client, stream::iter(0..count));
            assert_eq!(soon("total_sync", sync).await.unwrap(), expected);
        }
        let words = stream::iter(["a", "b", "c"].map(str::to_owned));
        assert_eq!(join::call(&client, "-", words, 7).await.unwrap(), "a-b-c7");
        let chunks = stream::iter(0..100).map(|_| vec![7; 100_000]);
        assert_eq!(total_bytes::call(&client, chunks).await.unwrap(), 10_000_000);
        client.close().await;
        server.shutdown().await;
    }
}

#[tokio::test]
async fn streams_go_both_ways_at_once() {
    for endpoint in endpoints() {
        let (server, client, _) = start(&endpoint, &Arc::default()).await;
        let expected: Vec<_> = (0..20_000).map(|n| 2 * n).collect();
        let doubled: Vec<_> =
            double::call(&client, stream::iter(0..20_000)).map(Result::unwrap).collect().await;
        assert_eq!(doubled, expected);
        let doubled = double_sync::call(&client, stream::iter(0..20_000)).map(Result::unwrap);
        assert_eq!(doubled.collect::<Vec<_>>().await, expected);
        // Each item is answered before the next one is made.
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<u64>();
        let numbers = stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|number| (number, receiver))
        });
        let mut doubled = double::call(&client, numbers);
        for n in 0..100 {
            sender.send(n).unwrap();
            assert_eq!(soon("an item", doubled.next()).await.unwrap().unwrap(), 2 * n);
        }
        drop(sender);
        assert!(soon("the end", doubled.next()).await.is_none());
        client.close().await;
        server.shutdown().await;
    }
}

#[test]
fn streams_are_passed_without_a_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, client, _) = runtime.block_on(start("tcp://127.0.0.1:0", &Arc::default()));
    assert_eq!(total::call(&client, stream::iter(0..1_000)).wait().unwrap(), 499_500);
    let doubled = double::call(&client, stream::iter(0..1_000)).wait();
    assert_eq!(doubled.map(Result::unwrap).sum::<u64>(), 999_000);
    runtime.block_on(server.shutdown());
}

#[tokio::test]
async fn function_that_takes_nothing_holds_its_caller() {
    for endpoint in endpoints() {
        let gate = Arc::<Gate>::default();
        let (server, client, made) = start(&endpoint, &gate).await;
        let numbers = Counted { made: Arc::clone(&made), size: 1_000 };
        let call = tokio::spawn(total_bytes::call(&client, numbers).into_future());
        let waiting = lazy::call(&client, stream::repeat(1).take(100_000));
        let waiting = tokio::spawn(waiting.into_future());
        gate.entered(1).await;
        // The other call goes on, and is endless.
        let before = made.items.load(Ordering::SeqCst);
        while made.items.load(Ordering::SeqCst) < before + 2_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(count_words::call(&client, "a b").await.unwrap().len(), 2);
        call.abort();
        let dropped = async {
            while made.dropped.load(Ordering::SeqCst) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon("the stream is dropped with its call", dropped).await;
        gate.open();
        assert_eq!(soon("the lazy one", waiting).await.unwrap().unwrap(), 100_000);
        client.close().await;
        server.shutdown().await;
    }
}

/// Opens the gate when the first item comes.
#[remote]
async fn opens(#[state] gate: Arc<Gate>, mut numbers: Incoming<u64>) -> u64 {
    numbers.next().await;
    gate.open();
    1 + numbers.count().await as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passed_item_does_not_wait_for_the_next_one() {
    for endpoint in endpoints() {
        let gate = Arc::<Gate>::default();
        let (server, client, _) = start(&endpoint, &gate).await;
        // The second item blocks the thread that polls for it.
        let numbers = stream::iter(0..2).inspect(move |n| {
            if *n == 1 {
                gate.pass(|| false);
            }
        });
        assert_eq!(soon("the count", opens::call(&client, numbers)).await.unwrap(), 2);
        client.close().await;
        server.shutdown().await;
    }
}

#[remote(idempotent)]
async fn total_again(numbers: Incoming<u64>) -> u64 {
    numbers.count().await as u64
}

#[tokio::test]
async fn call_is_not_made_again_once_its_stream_was_polled() {
    for numbers in [stream::empty().boxed(), stream::pending().boxed(), stream::iter([1]).boxed()] {
        let mut peer = tests::RawServer::bind().await;
        let client = tests::client().connect_lazy(&peer.endpoint).unwrap();
        let [identity, _, hello] = peer.recv().await;
        let welcome = b"\xc0\x82\xb0max_message_size\xcd\xff\xff\xaccapabilities\x91\xa7streams";
        peer.send(&identity, &[b"\x94\x01", &hello[2..7], welcome].concat()).await;
        let call = tokio::spawn(total_again::call(&client, numbers).into_future());
        let request = peer.recv().await[2].clone();
        let credit = [b"\x93\x02\xaarpc.credit\x92", &request[2..7], b"\x64"].concat();
        peer.send(&identity, &credit).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(peer);
        let error = soon("the call ends", call).await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::Yes), "{error}");
        assert!(error.message().contains("of its argument had"), "{error}");
        client.close().await;
    }
}

#[tokio::test]
async fn all_items_may_come_in_one_array() {
    let (server, client, _) = start("tcp://127.0.0.1:0", &Arc::default()).await;
    let all = client.call_dynamic::<u64>("total", ((1, 2, 3),)).await.unwrap();
    assert_eq!(all, 6);
    let all = client.call_dynamic::<u64>("total_sync", (Vec::<u64>::new(),)).await.unwrap();
    assert_eq!(all, 0);
    let chunks = [serde_bytes::ByteBuf::from(vec![1; 10]), serde_bytes::ByteBuf::from(vec![2; 5])];
    let bytes = client.call_dynamic::<u64>("total_bytes", (chunks,)).await.unwrap();
    assert_eq!(bytes, 15);
    let doubled = client.call_dynamic::<Vec<u64>>("double", ([4, 5],)).await.unwrap();
    assert_eq!(doubled, [8, 10]);
    for (params, expected) in [
        ("nothing", "parameter `numbers` (stream of u64): it is missing"),
        ("a text", "parameter `numbers` (stream of u64): invalid type: string"),
    ] {
        let call = match params {
            "nothing" => client.call_dynamic::<u64>("total", ()),
            _ => client.call_dynamic::<u64>("total", ("x",)),
        };
        let error = call.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadArguments);
        assert!(error.message().contains(expected), "{error}");
    }
    let keyed = client.call_dynamic::<u64>("total", (None::<u8>,)).idempotency_key("k");
    let error = keyed.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadArguments);
    assert!(error.message().contains("pass an array of all items"), "{error}");
    let error = total::call(&client, stream::empty()).idempotency_key("k").await.unwrap_err();
    let CallError::Rpc(error) = error else { panic!("{error}") };
    assert_eq!((error.kind(), error.ran()), (ErrorKind::BadArguments, Ran::No));
    // The function itself, in a test of its own.
    assert_eq!(total(vec![1, 2].into()).await, Ok(3));
    client.close().await;
    server.shutdown().await;
}

/// A number that cannot be encoded if it is odd, nor be decoded if it is more than 100.
struct Even(u64);

impl Serialize for Even {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(2) {
            self.0.serialize(serializer)
        } else {
            Err(ser::Error::custom("it is odd"))
        }
    }
}

impl<'de> Deserialize<'de> for Even {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        if number <= 100 { Ok(Self(number)) } else { Err(de::Error::custom("it is too high")) }
    }
}

#[remote]
async fn count_even(mut numbers: Incoming<Even>) -> Result<u64, String> {
    let mut count = 0;
    while let Some(number) = numbers.next().await {
        count += u64::from(number.map_err(|error| format!("{error:#}"))?.0 > 0);
    }
    Ok(count)
}

#[tokio::test]
async fn items_that_cannot_travel_end_the_call() {
    let gate = Arc::<Gate>::default();
    let server = builder(&gate).max_message_size(10_000);
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let even = |numbers: &'static [u64]| stream::iter(numbers).map(|n| Even(*n));
    assert_eq!(count_even::call(&client, even(&[2, 4])).await.unwrap(), 2);
    let error = count_even::call(&client, even(&[2, 3, 4])).await.unwrap_err();
    let CallError::Rpc(error) = error else { panic!("{error}") };
    assert_eq!((error.kind(), error.ran()), (ErrorKind::BadArguments, Ran::Yes), "{error}");
    assert!(format!("{error:#}").contains("it is odd"), "{error:#}");
    let error = count_even::call(&client, even(&[2, 102, 4])).await.unwrap_err();
    let CallError::Failed(error) = error else { panic!("{error}") };
    assert!(error.contains("an item of the parameter `numbers` does not decode"), "{error}");
    assert!(error.contains("it is too high"), "{error}");
    let chunks = stream::iter([10, 20_000, 10]).map(|size| vec![0; size]);
    let error = total_bytes::call(&client, chunks).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { limit: 10_000, .. }), "{error}");
    assert_eq!(error.ran(), Ran::Yes);
    client.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn small_messages_carry_a_stream() {
    let server = builder(&Arc::default()).max_message_size(4_096).bind("tcp://127.0.0.1:0").await;
    let server = server.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let chunks = stream::repeat_with(|| vec![0; 1_000]).take(1_000);
    assert_eq!(soon("the call", total_bytes::call(&client, chunks)).await.unwrap(), 1_000_000);
    client.close().await;
    server.shutdown().await;
}

/// Takes one chunk after the gate has opened.
#[remote]
async fn takes_one(#[state] gate: Arc<Gate>, mut chunks: Incoming<Vec<u8>>) -> usize {
    let _inside = gate.enter();
    gate.pass_async().await;
    chunks.next().await.unwrap().unwrap().len()
}

#[tokio::test]
async fn item_that_exceeds_the_window_needs_capacity() {
    const LARGE: usize = 150_000;
    let gate = Arc::<Gate>::default();
    let server = builder(&gate).shared_state(Arc::clone(&gate)).stream_window(10_000);
    let server = server.max_message_size(200_000).max_bytes_in_flight(300_000);
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let large = || stream::iter([vec![0; LARGE]]);
    let first = tokio::spawn(takes_one::call(&client, large()).into_future());
    gate.entered(1).await;
    // Until the large item of the first call has come, another one has the capacity.
    let refused = async {
        loop {
            let call = takes_one::call(&client, large()).timeout(Duration::from_millis(200));
            let error = call.await.unwrap_err();
            if error.kind() == ErrorKind::Overloaded {
                return error;
            }
        }
    };
    let error = soon("a call is refused", refused).await;
    assert!(error.message().contains("an item was larger than the window"), "{error}");
    gate.open();
    assert_eq!(soon("the first call", first).await.unwrap().unwrap(), LARGE);
    assert_eq!(takes_one::call(&client, large()).await.unwrap(), LARGE, "all of it is free again");
    client.close().await;
    server.shutdown().await;
}
