//! A load generator: each of `at_a_time` tasks makes one call after another.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The numbers of the calls to be made, starting at zero. Each number is handed out once.
#[derive(Debug)]
pub(crate) struct Numbers {
    next: AtomicU64,
    end: AtomicU64,
}

impl Numbers {
    pub(crate) fn below(end: u64) -> Arc<Self> {
        Arc::new(Self { next: AtomicU64::new(0), end: AtomicU64::new(end) })
    }

    /// Stops handing out numbers.
    pub(crate) fn end(&self) {
        self.end.store(0, Ordering::Relaxed);
    }

    fn take(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.end.load(Ordering::Relaxed)).then_some(number)
    }
}

/// Runs `one` for each of the `numbers`, `at_a_time` of them concurrently. Returns the results in
/// no particular order.
///
/// A call that panics ends the test.
pub(crate) async fn calls<T, F>(
    numbers: &Arc<Numbers>,
    at_a_time: usize,
    one: impl Fn(u64) -> F + Clone + Send + 'static,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send,
{
    let tasks: Vec<_> = (0..at_a_time)
        .map(|_| {
            let (numbers, one) = (Arc::clone(numbers), one.clone());
            tokio::spawn(async move {
                let mut results = Vec::new();
                while let Some(number) = numbers.take() {
                    results.push(one(number).await);
                }
                results
            })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.extend(task.await.expect("a call ends as the test expects"));
    }
    results
}
