//! The tasks of a client: one for each endpoint, and one that keeps the time.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use futures_core::Stream;
use futures_util::StreamExt;
use tokio::{sync::oneshot, task::JoinSet, time};

use crate::client::{
    core::{ClientCore, endpoint},
    endpoints::Change,
};

/// The shortest interval between two looks at deadlines and retries. Calls may end late by it.
const TICK: Duration = Duration::from_millis(1);

/// The source of a client's endpoints. The set stays as it is once the stream has ended.
pub(crate) type Changes = Pin<Box<dyn Stream<Item = Change> + Send>>;

/// Ends the calls when the task that holds it ends, or is dropped before it has run at all, with its
/// runtime: nobody waits for a client without tasks.
pub(crate) struct EndOnDrop(pub(crate) Arc<ClientCore>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Keeps every endpoint connected, and the time, until the client closes. An endpoint that has no link
/// by `connect_by` says so, and goes on.
pub(crate) async fn run(core: EndOnDrop, mut changes: Changes, connect_by: Option<Instant>) {
    let core = &core.0;
    let mut timer = JoinSet::new();
    timer.spawn(keep_time(Arc::clone(core)));
    let mut tasks = JoinSet::new();
    let mut removals = HashMap::new();
    let mut may_change = true;
    while may_change || !tasks.is_empty() {
        tokio::select! {
            change = changes.next(), if may_change => match change {
                Some(Change::Insert(endpoint)) => {
                    core.insert_endpoint(&endpoint);
                    let (remove, removed) = oneshot::channel();
                    removals.insert(Arc::as_ptr(&endpoint).addr(), remove);
                    let core = Arc::clone(core);
                    tasks.spawn(endpoint::keep_connected(core, endpoint, connect_by, removed));
                }
                Some(Change::Remove(endpoint)) => {
                    core.remove_endpoint(&endpoint);
                    // The receiver has gone if the client closes.
                    removals.remove(&Arc::as_ptr(&endpoint).addr()).map(|remove| remove.send(()));
                }
                None => may_change = false,
            },
            Some(_) = tasks.join_next() => {}
            () = core.closing() => break,
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Ends calls whose deadline has passed, whatever the state of the links, and makes the retries that are
/// due.
async fn keep_time(core: Arc<ClientCore>) {
    let mut sleep = pin!(time::sleep(Duration::ZERO));
    let mut earliest = Instant::now();
    poll_fn(|cx| {
        loop {
            let Some(next) = core.poll_timeout(cx.waker()) else { return Poll::<()>::Pending };
            let due = next.max(earliest).into();
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            ready!(sleep.as_mut().poll(cx));
            let now = Instant::now();
            earliest = now + TICK;
            core.handle_timeout(Some(now));
        }
    })
    .await;
}
