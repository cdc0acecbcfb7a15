//! Clients that run without an async runtime of their own.

use std::{sync::mpsc, thread, time::Duration};

use rpc_core::ErrorKind;
use tests::soon;

use crate::functions::{Fixture, add, divide, hold_async, note, noted};

/// Runs `work` on a thread that has no async runtime.
async fn without_a_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = tokio::sync::oneshot::channel();
    thread::spawn(move || drop(done.send(work())));
    soon("blocking work", result).await.expect("the thread did not panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn blocking_wait_works_for_every_operation() {
    let fixture = Fixture::tcp().await;
    let endpoint = fixture.server.endpoint().to_owned();
    without_a_runtime(move || {
        let client = tests::client().connect(endpoint).wait().unwrap();
        assert_eq!(add::call(&client, 1, 2).wait().unwrap(), 3);
        assert!(divide::call(&client, 1, 0).wait().unwrap_err().failed().is_some());
        note::notify(&client, "blocking".to_owned()).wait().unwrap();
        let sums: i64 =
            add::map(&client, (0..100).map(|n| (n, 1))).wait().map(|(_, sum)| sum.unwrap()).sum();
        assert_eq!(sums, 4950 + 100);
        let error =
            hold_async::call(&client).timeout(Duration::from_millis(30)).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        assert_eq!(noted::call(&client).wait().unwrap(), ["blocking"]);
    })
    .await;
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_threads_share_a_client() {
    let fixture = Fixture::tcp().await;
    let (sums, all) = mpsc::channel();
    for thread in 0..8 {
        let (client, sums) = (fixture.client.clone(), sums.clone());
        thread::spawn(move || {
            for n in 0..100 {
                sums.send(add::call(&client, thread, n).wait().unwrap()).unwrap();
            }
        });
    }
    drop(sums);
    let total: i64 = without_a_runtime(move || all.iter().sum()).await;
    assert_eq!(total, 28 * 100 + 4950 * 8);
    fixture.end().await;
}

#[tokio::test(flavor = "current_thread")]
async fn wait_on_own_runtime_ends_at_the_deadline() {
    let fixture = Fixture::tcp().await;
    let client =
        tests::client().use_current_runtime().connect(fixture.server.endpoint()).await.unwrap();
    // `wait` blocks the only thread that could send the request. That is a mistake of the caller,
    // and the call still ends at its deadline.
    let error = add::call(&client, 1, 2).timeout(Duration::from_millis(30)).wait().unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::DeadlineExceeded, rpc_core::Ran::No));
    assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
    fixture.end().await;
}

#[tokio::test(flavor = "current_thread")]
async fn wait_for_map_or_connect_on_own_runtime_ends() {
    let fixture = Fixture::tcp().await;
    let client =
        tests::client().use_current_runtime().connect(fixture.server.endpoint()).await.unwrap();
    let timeout = Duration::from_millis(30);
    let results: Vec<_> = add::map(&client, [(1, 2), (3, 4)]).timeout(timeout).wait().collect();
    for (_, result) in results {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    }
    let connect = tests::client().use_current_runtime().connect_timeout(timeout);
    let error = connect.connect(fixture.server.endpoint()).wait().unwrap_err();
    assert!(error.message().contains("`.await`"), "{error}");
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocking_close_sends_queued_notifications() {
    let fixture = Fixture::tcp().await;
    let endpoint = fixture.server.endpoint().to_owned();
    without_a_runtime(move || {
        let client = tests::client().connect(endpoint).wait().unwrap();
        for n in 0..100 {
            note::notify(&client, n.to_string()).wait().unwrap();
        }
        client.close().wait();
    })
    .await;
    let all = async {
        while noted::call(&fixture.client).await.unwrap().len() < 100 {
            tokio::task::yield_now().await;
        }
    };
    soon("every notification runs", all).await;
    fixture.end().await;
}
