//! `map`: one function that is called for many inputs.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
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

#[remote]
async fn fail_at(#[state] gate: Arc<Gate>, at: u32, n: u32) -> Result<u32, String> {
    if n < at {
        return Ok(n);
    }
    if n == at {
        return Err(format!("{n} fails"));
    }
    let _inside = gate.enter();
    gate.pass_async().await;
    Ok(n)
}

#[tokio::test]
async fn results_are_collected_in_order_until_one_fails() {
    let fixture = Fixture::tcp().await;
    let inputs = |at: u32| (0..10).map(move |n| (at, n));
    let all = fail_at::map(&fixture.client, inputs(10)).concurrency(3).collect_ordered();
    assert_eq!(all.await.unwrap(), (0..10).collect::<Vec<_>>());
    // The calls behind the failed one never end, and are cancelled.
    let some = fail_at::map(&fixture.client, inputs(4)).collect_ordered();
    let error = soon("the first error", some).await.unwrap_err();
    assert_eq!(error.failed().as_deref(), Some("4 fails"));
    soon("the others are cancelled", async {
        while fixture.client.status().calls > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let none = fail_at::map(&fixture.client, inputs(0).take(0)).collect_ordered();
    assert_eq!(none.await.unwrap(), Vec::<u32>::new());
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
