//! Calls and streams behind a proxy, which gives each message to another one of its servers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use rpc_core::{CallError, Client, ErrorKind, Ran, remote};
use tests::{Gate, soon};
use zeromq::{DealerSocket, RouterSocket, Socket};

use crate::{functions::builder, incoming::total, streams::squares};

/// Starts `count` servers and a proxy in front of them, and runs `calls` with a client of the proxy.
async fn behind_a_proxy(count: usize, calls: impl AsyncFnOnce(&Client)) {
    let gate: Arc<Gate> = Arc::default();
    let (mut front, mut back) = (RouterSocket::new(), DealerSocket::new());
    let endpoint = front.bind("tcp://127.0.0.1:0").await.unwrap().to_string();
    let mut servers = Vec::new();
    for _ in 0..count {
        let bound = builder(&gate).bind("tcp://127.0.0.1:0").await.unwrap();
        back.connect(bound.endpoint()).await.unwrap();
        servers.push(bound.spawn().unwrap());
    }
    let calls = async {
        let idle = Duration::from_millis(200);
        let client = tests::client().stream_idle_timeout(idle).connect(endpoint).await.unwrap();
        calls(&client).await;
    };
    tokio::select! {
        // The dealer passes every other message to the other server.
        ended = zeromq::proxy(front, back, None) => panic!("{ended:?}"),
        () = calls => {}
    }
    for server in servers {
        server.shutdown().await;
    }
}

/// The number of times that `once` has run with each index.
static ONCE: [AtomicU64; 20] = [const { AtomicU64::new(0) }; 20];

#[remote]
fn once(index: usize) -> u64 {
    ONCE[index].fetch_add(1, Ordering::Relaxed) + 1
}

#[tokio::test]
async fn keyed_calls_run_once_on_one_of_two_servers() {
    behind_a_proxy(2, async |client| {
        for index in 0..ONCE.len() {
            let call = || once::call(client, index).idempotency_key(index.to_be_bytes());
            assert_eq!(soon("the call", call()).await.unwrap(), 1);
            assert_eq!(soon("the retry", call()).await.unwrap(), 1);
        }
    })
    .await;
    assert!(ONCE.iter().all(|runs| runs.load(Ordering::Relaxed) == 1), "{ONCE:?}");
}

/// More items than the first credit allows, of up to five bytes.
const MANY: u64 = 50_000;

#[tokio::test]
async fn results_pass_from_one_server() {
    behind_a_proxy(1, async |client| {
        let mut items = squares::call(client, MANY);
        for n in 0..MANY {
            assert_eq!(soon("an item", items.next()).await.unwrap().unwrap(), n * n);
        }
        assert!(soon("the end", items.next()).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn results_of_two_servers_end_with_a_true_error() {
    behind_a_proxy(2, async |client| {
        let (mut items, mut taken) = (squares::call(client, MANY), 0);
        let error = loop {
            match soon("an item", items.next()).await {
                Some(Ok(item)) => assert_eq!(item, taken * taken),
                Some(Err(error)) => break Some(error),
                None => break None,
            }
            taken += 1;
        };
        // Whether the credit reaches the right server is a matter of luck.
        match error {
            None => assert_eq!(taken, MANY),
            Some(error) => assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}"),
        }
    })
    .await;
}

/// Passes its items at intervals, so that they and their end are messages of their own.
fn spaced(count: u64) -> impl Stream<Item = u64> + Send + 'static {
    stream::iter(1..=count).then(async |n| {
        tokio::time::sleep(Duration::from_millis(2)).await;
        n
    })
}

#[tokio::test]
async fn no_server_misses_items_that_another_one_gets() {
    for servers in [1, 2] {
        behind_a_proxy(servers, async |client| {
            for count in 0..4 {
                let call = total::call(client, spaced(count).boxed()).into_future();
                let Err(CallError::Rpc(error)) = soon("the total", call).await else {
                    panic!("{servers} servers have taken a stream of {count} items")
                };
                assert_eq!((error.kind(), error.ran()), (ErrorKind::BadArguments, Ran::No));
                assert!(error.message().contains("through a proxy"), "{error}");
            }
        })
        .await;
    }
}
