//! `map`: one function that is called for many inputs.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::StreamExt;
use rpc_core::{CallError, Context, remote};
use tests::{Gate, soon};

use crate::functions::{DivideError, Fixture, add, count_words, divide, echo, hold_async};

#[tokio::test]
async fn every_input_gives_one_result_with_its_index() {
    let fixture = Fixture::tcp().await;
    let inputs = (0..1_000).map(|n| (n, 2 * n));
    let results: Vec<_> = add::map(&fixture.client, inputs).concurrency(64).collect().await;
    assert_eq!(results.len(), 1_000);
    let mut seen = HashSet::new();
    for (index, sum) in results {
        assert!(seen.insert(index));
        assert_eq!(sum.unwrap(), 3 * i64::try_from(index).unwrap());
    }
    fixture.end().await;
}

#[tokio::test]
async fn map_accepts_owned_and_borrowed_inputs() {
    let fixture = Fixture::inproc().await;
    let mut owned =
        count_words::map(&fixture.client, vec!["a".to_owned(), "b b".to_owned()]).ordered();
    assert_eq!(owned.next().await.unwrap().1.unwrap()["a"], 1);
    assert_eq!(owned.next().await.unwrap().1.unwrap()["b"], 2);
    assert!(owned.next().await.is_none());
    let borrowed: Vec<_> = count_words::map(&fixture.client, ["a", "b"]).collect().await;
    assert_eq!(borrowed.len(), 2);
    fixture.end().await;
}

#[tokio::test]
async fn ordered_map_yields_results_in_order() {
    let fixture = Fixture::tcp().await;
    let mut map = add::map(&fixture.client, (0..500).map(|n| (n, 0))).concurrency(16).ordered();
    for expected in 0..500 {
        let (index, sum) = map.next().await.unwrap();
        assert_eq!(index, expected);
        assert_eq!(sum.unwrap(), i64::try_from(expected).unwrap());
    }
    assert!(map.next().await.is_none());
    fixture.end().await;
}

#[tokio::test]
async fn error_does_not_end_the_map() {
    let fixture = Fixture::tcp().await;
    let mut map = divide::map(&fixture.client, [(4, 2), (1, 0), (9, 3)]).ordered();
    assert_eq!(map.next().await.unwrap().1.unwrap(), 2);
    let failed = map.next().await.unwrap().1.unwrap_err();
    assert!(matches!(failed, CallError::Failed(DivideError::ByZero(1))));
    assert_eq!(map.next().await.unwrap().1.unwrap(), 3);
    fixture.end().await;
}

#[tokio::test]
async fn map_takes_inputs_as_calls_can_start() {
    let fixture = Fixture::tcp().await;
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    let inputs = std::iter::repeat_with(|| {
        TAKEN.fetch_add(1, Ordering::Relaxed);
    });
    let mut map = hold_async::map(&fixture.client, inputs).concurrency(5);
    assert_eq!(TAKEN.load(Ordering::Relaxed), 0);
    assert!(futures_util::poll!(std::pin::pin!(map.next())).is_pending());
    fixture.gate.entered(5).await;
    assert_eq!(TAKEN.load(Ordering::Relaxed), 5);
    fixture.gate.open();
    for _ in 0..20 {
        assert!(map.next().await.unwrap().1.unwrap());
    }
    assert!(TAKEN.load(Ordering::Relaxed) <= 25);
    // Dropping the map cancels the remaining calls.
    drop(map);
    fixture.end().await;
}

#[tokio::test]
async fn empty_input_yields_no_results() {
    let fixture = Fixture::inproc().await;
    assert!(echo::map(&fixture.client, Vec::<bytes::Bytes>::new()).next().await.is_none());
    fixture.end().await;
}

#[remote(inline)]
fn has_deadline_within(#[context] cx: &Context, seconds: u64) -> bool {
    cx.remaining().is_some_and(|left| left.as_secs() <= seconds)
}

#[tokio::test]
async fn map_timeout_applies_to_each_call() {
    let fixture = Fixture::inproc().await;
    let timeout = std::time::Duration::from_secs(5);
    let mut map = has_deadline_within::map(&fixture.client, [5, 5]).timeout(timeout);
    assert!(map.next().await.unwrap().1.unwrap());
    assert!(map.next().await.unwrap().1.unwrap());
    fixture.end().await;
}

#[tokio::test]
async fn collected_outputs_are_in_the_order_of_the_inputs() {
    let fixture = Fixture::tcp().await;
    let inputs = || (0..500).map(|n| (n, n));
    let expected: Vec<i64> = (0..500).map(|n| 2 * n).collect();
    let sums = add::map(&fixture.client, inputs()).concurrency(16);
    assert_eq!(sums.collect_ordered().await.unwrap(), expected);
    assert_eq!(
        add::map(&fixture.client, inputs()).ordered().collect_ordered().await.unwrap(),
        expected
    );
    // A result that was taken before is not collected.
    let mut sums = add::map(&fixture.client, inputs()).ordered();
    assert_eq!(sums.next().await.unwrap().1.unwrap(), 0);
    assert_eq!(sums.collect_ordered().await.unwrap(), expected[1..]);
    let nothing = add::map(&fixture.client, Vec::new());
    assert_eq!(nothing.collect_ordered().await.unwrap(), Vec::<i64>::new());
    fixture.end().await;
}

#[remote]
async fn wait_or_fail(#[state] gate: &Gate, fails: bool) -> Result<(), String> {
    let _inside = gate.enter();
    if fails {
        gate.entered(2).await;
        return Err("as asked".to_owned());
    }
    std::future::pending().await
}

#[tokio::test]
async fn first_error_ends_the_collection_and_cancels_the_other_calls() {
    let fixture = Fixture::inproc().await;
    let mut calls = wait_or_fail::map(&fixture.client, [false, true]).collect_ordered();
    let ended = soon("the second call fails", &mut calls).await;
    assert_eq!(ended.unwrap_err().failed().unwrap(), "as asked");
    // The future is still there, but the first call is not.
    fixture.gate.left(2).await;
    drop(calls);
    fixture.end().await;
}

#[test]
fn collecting_blocks_without_a_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fixture = runtime.block_on(Fixture::tcp());
    let sums = add::map(&fixture.client, (0..5).map(|n| (n, n))).collect_ordered();
    assert_eq!(sums.wait().unwrap(), [0, 2, 4, 6, 8]);
    runtime.block_on(fixture.end());
}
