//! The tasks of a client: one for each endpoint, and a timer task.

use std::{
    collections::{HashMap, hash_map::Entry},
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
    core::{ClientCore, connect},
    endpoints::{Change, EndpointState},
};

/// The shortest interval between two checks of deadlines and retries. Calls may end late by this
/// time.
const TICK: Duration = Duration::from_millis(1);

/// The source of a client's endpoints. When the stream ends, the endpoints remain as they are.
pub(crate) type Changes = Pin<Box<dyn Stream<Item = Change> + Send>>;

/// A guard that ends all calls when it is dropped, so that no caller waits for a client without
/// tasks. The task that holds the guard drops it when it ends. The guard is also dropped if the
/// runtime ends before the task has run at all.
pub(crate) struct EndOnDrop(pub(crate) Arc<ClientCore>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Keeps every endpoint connected, and runs the timer task, until the client closes. An endpoint
/// without a link at the time `connect_by` reports this, and continues to connect.
pub(crate) async fn run(core: EndOnDrop, mut changes: Changes, connect_by: Option<Instant>) {
    let core = &core.0;
    let mut timer = JoinSet::new();
    timer.spawn(keep_time(Arc::clone(core)));
    let mut tasks = JoinSet::new();
    let mut removals = HashMap::new();
    let mut may_change = true;
    let mut awaits_timeout = connect_by.is_some();
    let mut connect_timeout =
        pin!(time::sleep_until(connect_by.unwrap_or_else(Instant::now).into()));
    loop {
        tokio::select! {
            change = changes.next(), if may_change => match change {
                Some(Change::Insert(endpoint)) => {
                    let Entry::Vacant(removal) = removals.entry(key(&endpoint)) else { continue };
                    core.insert_endpoint(&endpoint);
                    let (remove, removed) = oneshot::channel();
                    removal.insert(remove);
                    // An endpoint that comes later has no part in whether connecting has failed.
                    let connect_by = connect_by.filter(|by| *by > Instant::now());
                    if connect_by.is_none() {
                        endpoint.give_up();
                    }
                    let core = Arc::clone(core);
                    tasks.spawn(connect::keep_connected(core, endpoint, connect_by, removed));
                }
                Some(Change::Remove(endpoint)) => {
                    core.remove_endpoint(&endpoint);
                    // The task may have dropped the receiver already, because the client closes.
                    removals.remove(&key(&endpoint)).map(|remove| remove.send(()));
                }
                Some(Change::Source { index, endpoints, failure }) => {
                    core.handle_source(index, endpoints, failure);
                }
                None => may_change = false,
            },
            () = &mut connect_timeout, if awaits_timeout => {
                awaits_timeout = false;
                // Each endpoint gives up by itself, but there may be none.
                core.check_given_up();
            }
            Some(_) = tasks.join_next() => {}
            () = core.closing() => break,
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Identifies an endpoint by its allocation.
fn key(endpoint: &Arc<EndpointState>) -> usize {
    Arc::as_ptr(endpoint).addr()
}

/// Ends calls whose deadline has passed, in any state of the links, and makes the retries that are
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
