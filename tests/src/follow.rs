//! Tools for tests of clients whose servers come and go.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    future::{Future, IntoFuture},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rpc_core::Client;
use tokio::task::JoinSet;

use crate::soon;

/// Makes calls until exactly the servers in `expected` answer ten times as many calls.
///
/// # Panics
/// Panics if a call fails, or if that does not happen in time.
pub async fn answer<T, C, E>(expected: &[T], call: impl Fn() -> C)
where
    T: Ord + Clone + Debug,
    C: IntoFuture<Output = Result<T, E>>,
    E: Debug,
{
    let expected = expected.iter().cloned().collect::<BTreeSet<_>>();
    let settles = async {
        loop {
            let mut seen = BTreeSet::new();
            let calls = (0..10 * expected.len()).map(|_| call().into_future());
            for server in futures_util::future::join_all(calls).await {
                seen.insert(server.expect("no call fails"));
            }
            if seen == expected {
                return;
            }
        }
    };
    soon(&format!("calls to {expected:?}"), settles).await;
}

/// Waits until the first source of a client has a failure that contains `text`, or none if that is
/// empty.
///
/// # Panics
/// Panics if that does not happen in time.
pub async fn says(client: &Client, text: &str) {
    let says = async {
        loop {
            let source = client.status().sources.remove(0);
            let failure = source.failure.as_deref().unwrap_or_default();
            if source.has_answered
                && failure.contains(text)
                && failure.is_empty() == text.is_empty()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(text, says).await;
}

/// Tasks that make one call after the other, none of which may fail.
#[derive(Debug)]
pub struct Callers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<u32>,
}

impl Callers {
    /// Starts `count` tasks.
    ///
    /// # Panics
    /// The tasks panic if a call fails, which [`stop`](Self::stop) tells.
    pub fn start<T, E, C>(count: usize, call: impl Fn() -> C + Clone + Send + 'static) -> Self
    where
        C: Future<Output = Result<T, E>> + Send,
        T: Send,
        E: Debug + Send,
    {
        let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for _ in 0..count {
            let (stop, call) = (Arc::clone(&stop), call.clone());
            tasks.spawn(async move {
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    call().await.expect("no call fails");
                    calls += 1;
                }
                calls
            });
        }
        Self { stop, tasks }
    }

    /// Ends the tasks. Returns the number of their calls.
    ///
    /// # Panics
    /// Panics if a call has failed.
    pub async fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        soon("the callers", self.tasks.join_all()).await.into_iter().sum()
    }
}
