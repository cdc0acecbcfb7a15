//! A node: it stores orders until it is told to end.

use std::{error::Error, fmt, str::FromStr, sync::Arc};

use examples::child;
use rpc_core::{Server, remote};
use tokio::sync::Notify;

use crate::{
    Options,
    store::{Order, Store, Stored},
};

/// The state of a node, which its functions share.
pub(crate) struct Node {
    name: String,
    store: Store,
    death: Option<Death>,
    ends: Arc<Notify>,
}

/// The step of an order at which a node dies, for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Death {
    order: u32,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Before the order is stored.
    Received,
    /// After the order is stored, and before that is answered.
    Stored,
}

impl FromStr for Death {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (order, step) = text.split_once(':').ok_or("there is no `:`")?;
        let order: u32 = order.parse().map_err(|_| "the order is no number")?;
        match step {
            "received" => Ok(Self { order, step: Step::Received }),
            "stored" => Ok(Self { order, step: Step::Stored }),
            // A node that has answered one order dies as it receives the next.
            "answered" => Ok(Self { order: order + 1, step: Step::Received }),
            _ => Err("a step is `received`, `stored` or `answered`"),
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            Step::Received => "received",
            Step::Stored => "stored",
        };
        write!(f, "{}:{step}", self.order)
    }
}

impl Node {
    fn reach(&self, order: &Order, step: Step) {
        if self.death.is_some_and(|death| order.id >= death.order && step == death.step) {
            // As if it was killed: nothing is tidied up.
            std::process::abort();
        }
    }
}

/// Tells a node that orders will come. Returns its process id.
#[remote(idempotent)]
pub(crate) fn start(#[state] node: &Node) -> u32 {
    tracing::debug!(node = node.name, "starts");
    std::process::id()
}

/// Stores an order, exactly once however often it comes. Returns true if this call has stored it.
#[remote(idempotent)]
pub(crate) fn process_order(#[state] node: &Node, order: &Order) -> Result<bool, String> {
    node.reach(order, Step::Received);
    let is_new = node.store.add(order, &node.name).map_err(|error| error.to_string())?;
    node.reach(order, Step::Stored);
    Ok(is_new)
}

/// Returns up to `count` stored orders whose ids are `from` or more.
#[remote(idempotent)]
pub(crate) fn stored_orders(
    #[state] node: &Node,
    from: u32,
    count: u32,
) -> Result<Vec<Stored>, String> {
    node.store.list(from, count).map_err(|error| error.to_string())
}

/// Tells a node to end. It answers what it has begun.
#[remote(idempotent)]
pub(crate) fn end(#[state] node: &Node) {
    node.ends.notify_one();
}

/// Serves until it is told to end, or until its controller has gone.
pub(crate) async fn run(name: &str, options: &Options) -> Result<(), Box<dyn Error>> {
    let store = Store::open(&options.store)
        .map_err(|error| format!("cannot open {}: {error}", options.store.display()))?;
    let ends = Arc::new(Notify::new());
    let node = Node { name: name.to_owned(), store, death: options.die, ends: Arc::clone(&ends) };
    let mut endpoints = vec!["tcp://127.0.0.1:0".to_owned()];
    endpoints.extend(options.broker.clone());
    let server = Server::builder()
        .state(node)
        .serve::<start>()
        .serve::<process_order>()
        .serve::<stored_orders>()
        .serve::<end>()
        .bind(endpoints)
        .await?;
    child::serve(server, async move { ends.notified().await }).await
}
