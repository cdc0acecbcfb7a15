//! Functions that return many items, one by one.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use rpc_core::{CallError, ErrorKind, Ran, Server, remote};
use tests::{Gate, endpoints, soon};

use crate::functions::{Made, add, builder};

struct NoteDrop(Arc<Made>);

impl Drop for NoteDrop {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

#[remote(idempotent)]
pub(crate) fn squares(below: u64) -> impl Iterator<Item = u64> + Send {
    (0..below).map(|n| n * n)
}

#[remote]
async fn letters(text: &str) -> impl Stream<Item = char> + Send {
    stream::iter(text.chars())
}

#[remote]
fn halves(numbers: &[u64]) -> Result<impl Iterator<Item = Result<u64, String>> + Send, String> {
    if numbers.is_empty() {
        return Err("there are none".to_owned());
    }
    let half = |n: &u64| n.is_multiple_of(2).then_some(n / 2).ok_or_else(|| format!("{n} is odd"));
    Ok(numbers.iter().map(half))
}

#[remote]
fn boxed(below: u8) -> Box<dyn Iterator<Item = u8> + Send> {
    Box::new(0..below)
}

#[remote]
async fn boxed_stream(below: u8) -> Pin<Box<dyn Stream<Item = u8> + Send>> {
    Box::pin(stream::iter(0..below))
}

#[remote]
pub(crate) fn endless(
    #[state] made: Arc<Made>,
    size: usize,
) -> impl Iterator<Item = Vec<u8>> + Send {
    let note = NoteDrop(Arc::clone(&made));
    std::iter::repeat_with(move || {
        note.0.items.fetch_add(1, Ordering::SeqCst);
        vec![0; size]
    })
}

#[remote]
async fn endless_async(
    #[state] made: Arc<Made>,
    size: usize,
) -> impl Stream<Item = Vec<u8>> + Send {
    let note = NoteDrop(Arc::clone(&made));
    stream::repeat_with(move || {
        note.0.items.fetch_add(1, Ordering::SeqCst);
        vec![0; size]
    })
}

#[remote]
fn panics_after(count: u32) -> impl Iterator<Item = u32> + Send {
    (0..).inspect(move |n| assert!(*n < count, "as it was asked to"))
}

/// Takes long after its first items: until the gate opens.
#[remote]
fn gated(#[state] gate: Arc<Gate>, first: u32) -> impl Iterator<Item = u32> + Send {
    (0..=first).inspect(move |n| {
        if *n == first {
            let _inside = gate.enter();
            gate.pass(|| false);
        }
    })
}

#[remote]
async fn never(first: u32) -> impl Stream<Item = u32> + Send {
    stream::iter(0..first).chain(stream::pending())
}

pub(crate) async fn collect<S: Stream<Item = Result<T, E>> + Unpin, T, E>(
    items: S,
) -> Result<Vec<T>, E> {
    let items: Vec<_> = soon("the stream ends", items.collect()).await;
    items.into_iter().collect()
}

#[tokio::test]
async fn items_come_in_order_and_once() {
    for endpoint in endpoints() {
        let server = builder(&Arc::default()).bind(&endpoint).await.unwrap();
        let server = server.spawn().unwrap();
        let client = tests::client().connect(server.endpoint()).await.unwrap();
        for count in [0, 1, 10, 10_000] {
            let expected: Vec<_> = (0..count).map(|n| n * n).collect();
            assert_eq!(collect(squares::call(&client, count)).await.unwrap(), expected);
            // With a window that holds one item at a time.
            if count < 100 {
                let narrow = squares::call(&client, count).window(1);
                assert_eq!(collect(narrow).await.unwrap(), expected);
            }
        }
        let text: String =
            collect(letters::call(&client, "Straße")).await.unwrap().into_iter().collect();
        assert_eq!(text, "Straße");
        assert_eq!(collect(boxed::call(&client, 5)).await.unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(collect(boxed_stream::call(&client, 3)).await.unwrap(), [0, 1, 2]);
        client.close().await;
        server.shutdown().await;
    }
}

#[tokio::test]
async fn errors_end_a_stream_after_its_items() {
    for endpoint in endpoints() {
        let server = builder(&Arc::default()).bind(&endpoint).await.unwrap();
        let server = server.spawn().unwrap();
        let client = tests::client().connect(server.endpoint()).await.unwrap();
        let mut items = halves::call(&client, &[2, 4, 5, 6]);
        assert_eq!(items.next().await.unwrap().unwrap(), 1);
        assert_eq!(items.next().await.unwrap().unwrap(), 2);
        let Some(Err(CallError::Failed(reason))) = items.next().await else { panic!("5 is odd") };
        assert_eq!(reason, "5 is odd");
        assert!(items.next().await.is_none());
        let Some(Err(CallError::Failed(reason))) = halves::call(&client, &[]).next().await else {
            panic!("there are none")
        };
        assert_eq!(reason, "there are none");
        let mut items = panics_after::call(&client, 3);
        for n in 0..3 {
            assert_eq!(items.next().await.unwrap().unwrap(), n);
        }
        let error = items.next().await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.ran()), (ErrorKind::Panicked, Ran::Yes), "{error}");
        assert!(error.message().contains("as it was asked to"), "{error}");
        assert!(items.next().await.is_none());
        client.close().await;
        server.shutdown().await;
    }
}

#[tokio::test]
async fn reader_that_waits_holds_the_function_and_no_worker() {
    const SIZE: usize = 1_000;
    for endpoint in endpoints() {
        let made = Arc::<Made>::default();
        let server = builder(&Arc::default()).shared_state(Arc::clone(&made)).workers(1);
        let server = server.bind(&endpoint).await.unwrap().spawn().unwrap();
        let client = tests::client().connect(server.endpoint()).await.unwrap();
        let window = 100_000;
        let mut first = endless::call(&client, SIZE).window(window);
        let mut second = endless_async::call(&client, SIZE).window(window);
        first.next().await.unwrap().unwrap();
        second.next().await.unwrap().unwrap();
        // The only worker is free.
        assert_eq!(crate::functions::count_words::call(&client, "a b a").await.unwrap()["a"], 2);
        assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
        for _ in 0..1_000 {
            first.next().await.unwrap().unwrap();
            second.next().await.unwrap().unwrap();
        }
        let most = 2 * (1_001 + usize::try_from(window).unwrap() / SIZE + 1);
        let items = made.items.load(Ordering::SeqCst);
        assert!(items <= most, "{items} items are more than {most}");
        drop(first);
        drop(second);
        let both = async {
            while made.dropped.load(Ordering::SeqCst) < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon("the functions are dropped", both).await;
        client.close().await;
        server.shutdown().await;
    }
}

#[tokio::test]
async fn item_does_not_wait_for_the_next_one() {
    for endpoint in endpoints() {
        let gate = Arc::<Gate>::default();
        let server = builder(&gate).workers(5).bind(&endpoint).await.unwrap().spawn().unwrap();
        let client = tests::client().connect(server.endpoint()).await.unwrap();
        let mut calls = Vec::new();
        for first in [1, 2, 3, 10, 100] {
            let mut items = gated::call(&client, first);
            for n in 0..first {
                assert_eq!(soon("an item at once", items.next()).await.unwrap().unwrap(), n);
            }
            calls.push((first, items));
        }
        gate.entered(5).await;
        gate.open();
        for (first, mut items) in calls {
            assert_eq!(soon("the last item", items.next()).await.unwrap().unwrap(), first);
            assert!(items.next().await.is_none());
        }
        client.close().await;
        server.shutdown().await;
    }
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a drop that panics");
    }
}

#[remote]
fn holds_a_bomb() -> impl Iterator<Item = u32> + Send {
    let bomb = Bomb;
    (0..).inspect(move |_| {
        let _ = &bomb;
    })
}

#[tokio::test]
async fn panicking_drop_of_an_iterator_harms_nobody() {
    let server = builder(&Arc::default()).bind("tcp://127.0.0.1:0").await;
    let server = server.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    for _ in 0..10 {
        let mut items = holds_a_bomb::call(&client).window(1);
        assert_eq!(items.next().await.unwrap().unwrap(), 0);
        drop(items);
        assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
    }
    client.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn silence_ends_a_stream_and_a_slow_reader_does_not() {
    let server = builder(&Arc::default()).bind("tcp://127.0.0.1:0").await;
    let server = server.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let idle = Duration::from_millis(100);
    let mut items = never::call(&client, 3).idle_timeout(idle);
    for n in 0..3 {
        // Longer than the idle timeout, with an item that waits.
        tokio::time::sleep(2 * idle).await;
        assert_eq!(items.next().await.unwrap().unwrap(), n);
    }
    let error = items.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::DeadlineExceeded, Ran::Yes), "{error}");
    assert!(error.message().contains("after 3 items"), "{error}");
    let mut items = never::call(&client, 1).timeout(idle);
    items.next().await.unwrap().unwrap();
    let error = items.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    client.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn callers_without_streams_get_an_array() {
    let gate = Arc::<Gate>::default();
    let server = builder(&gate).max_message_size(10_000);
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let all: Vec<u64> = client.call(squares::args(4)).await.unwrap();
    assert_eq!(all, [0, 1, 4, 9]);
    let error = client.call(squares::args(100_000)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { limit: 10_000, .. }), "{error}");
    assert!(error.message().contains("items have"), "{error}");
    client.close().await;
    server.shutdown().await;
}

#[test]
fn streams_are_read_without_a_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(async {
        let server = builder(&Arc::default()).bind("tcp://127.0.0.1:0");
        server.await.unwrap().spawn().unwrap()
    });
    let client = tests::client().connect(server.endpoint()).wait().unwrap();
    let sum: u64 = squares::call(&client, 1_000).wait().map(Result::unwrap).sum();
    assert_eq!(sum, (0..1_000).map(|n| n * n).sum::<u64>());
    runtime.block_on(server.shutdown());
}

#[tokio::test]
async fn stream_ends_with_its_server() {
    let server = builder(&Arc::default()).drain_timeout(Duration::from_millis(50));
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let mut items = endless::call(&client, 100).window(1_000);
    let mut received = 0;
    for _ in 0..20 {
        items.next().await.unwrap().unwrap();
        received += 1;
    }
    soon("the server ends", server.shutdown()).await;
    let error = loop {
        match soon("an item", items.next()).await {
            Some(Ok(_)) => received += 1,
            Some(Err(error)) => break error,
            None => panic!("an endless stream has ended after {received} items"),
        }
    };
    assert_eq!((error.kind(), error.ran()), (ErrorKind::ShuttingDown, Ran::Yes), "{error}");
    assert!(error.message().contains(&format!("{received} items had come")), "{error}");
    assert!(items.next().await.is_none());
    client.close().await;
}

#[tokio::test]
async fn thousands_of_open_streams_leave_the_workers_free() {
    const STREAMS: usize = 10_000;
    let made = Arc::<Made>::default();
    let server = builder(&Arc::default()).shared_state(Arc::clone(&made)).workers(2);
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..STREAMS {
        let mut items = endless::call(&client, 10).window(100);
        soon("an item", items.next()).await.unwrap().unwrap();
        open.push(items);
    }
    let begin = std::time::Instant::now();
    assert_eq!(crate::functions::count_words::call(&client, "a b a").await.unwrap()["a"], 2);
    println!("a call beside {STREAMS} open streams took {:?}", begin.elapsed());
    for items in &mut open {
        soon("an item", items.next()).await.unwrap().unwrap();
    }
    drop(open);
    let dropped = async {
        while made.dropped.load(Ordering::SeqCst) < STREAMS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon("the functions are dropped", dropped).await;
    client.close().await;
    server.shutdown().await;
}

/// Reads a stream of its own server, on a worker.
#[remote]
fn sum_of_squares(#[state] made: &Made, below: u64) -> u64 {
    let client = made.client.get().unwrap();
    squares::call(client, below).window(1_000).wait().map(Result::unwrap).sum()
}

#[tokio::test]
async fn stream_that_goes_on_gets_a_worker_while_all_block() {
    // As many as there are workers at first, so that none is left for the streams.
    let calls = std::thread::available_parallelism().unwrap().get();
    for endpoint in endpoints() {
        let own = Arc::<Made>::default();
        let server = Server::builder().serve::<squares>().serve::<sum_of_squares>();
        let server = server.shared_state(Arc::clone(&own)).max_waiting(calls);
        let server = server.bind(&endpoint).await.unwrap().spawn().unwrap();
        let client = tests::client().connect(server.endpoint()).await.unwrap();
        assert!(own.client.set(tests::client().connect(server.endpoint()).await.unwrap()).is_ok());
        let below = 10_000;
        let sums = (0..calls).map(|_| sum_of_squares::call(&client, below));
        let sums = soon("streams within calls", futures_util::future::join_all(sums)).await;
        let expected: u64 = (0..below).map(|n| n * n).sum();
        for sum in sums {
            assert_eq!(sum.unwrap(), expected);
        }
        client.close().await;
        server.shutdown().await;
    }
}
