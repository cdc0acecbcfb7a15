//! The controller: it starts nodes, hands out orders, and ends the nodes.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use examples::child::ChildServer;
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use rpc_core::{Client, Discovery, DiscoveryError};
use tokio::sync::watch;

use crate::{
    Options,
    node::{end, process_order, start, stored_orders},
    store::{Order, Stored},
};

/// The number of orders that are on their way at a time.
const CONCURRENCY: usize = 32;
/// The interval at which the controller looks for nodes that have died.
const LOOK_AFTER: Duration = Duration::from_millis(20);
/// The timeout of an order, over all nodes that it is tried on.
const PATIENCE: Duration = Duration::from_secs(60);
/// The number of stored orders that are asked for at a time.
const PAGE: u32 = 1_000;

const ITEMS: [&str; 4] = ["bolt", "gear", "nut", "spring"];

/// A process that stores orders.
struct NodeProcess {
    name: String,
    server: ChildServer,
    /// A connection to this node alone.
    client: Client,
}

impl NodeProcess {
    async fn begin(name: String, options: &Options, dies: bool) -> Result<Self, Box<dyn Error>> {
        let mut arguments = vec!["--node".to_owned(), name.clone()];
        arguments.extend(["--store".to_owned(), options.store.display().to_string()]);
        // A node that only lists takes no orders.
        if let Some(broker) = options.broker.as_ref().filter(|_| !options.list) {
            arguments.extend(["--broker".to_owned(), broker.clone()]);
        }
        if let Some(death) = options.die.filter(|_| dies) {
            arguments.extend(["--die".to_owned(), death.to_string()]);
        }
        let server = ChildServer::start(&name, &arguments)?;
        let client = Client::connect(&server.endpoint).await?;
        let id = start::call(&client).await?;
        println!("Starting {name} (process {id})");
        Ok(Self { name, server, client })
    }

    async fn end(mut self) -> Result<(), Box<dyn Error>> {
        end::call(&self.client).await?;
        let status = self.server.process.wait()?;
        println!("Ending {} ({status})", self.name);
        Ok(())
    }
}

/// The endpoints of the nodes that run, for the client that hands out orders.
struct Running(watch::Receiver<Vec<String>>);

impl Discovery for Running {
    fn name(&self) -> String {
        "nodes".to_owned()
    }

    async fn next(&mut self) -> Result<Vec<String>, DiscoveryError> {
        match self.0.changed().await {
            Ok(()) => Ok(self.0.borrow_and_update().clone()),
            Err(_) => std::future::pending().await,
        }
    }
}

fn endpoints(nodes: &[NodeProcess]) -> Vec<String> {
    nodes.iter().map(|node| node.server.endpoint.clone()).collect()
}

/// Makes the order with this id, always the same.
fn order(id: u32) -> Order {
    let item = ITEMS[id as usize % ITEMS.len()];
    Order { id, item: item.to_owned(), quantity: 1 + id % 9 }
}

pub(crate) async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut nodes = Vec::new();
    for number in 1..=options.nodes.get() {
        let name = format!("node-{number}");
        nodes.push(NodeProcess::begin(name, options, number == 1).await?);
    }
    let (running, of_running) = watch::channel(Vec::new());
    running.send_replace(endpoints(&nodes));
    let client = match &options.broker {
        Some(broker) => Client::connect(broker).await?,
        None => Client::builder().connect_via(Running(of_running)).await?,
    };

    println!("Processing {} orders on {} nodes", options.orders, nodes.len());
    let begin = Instant::now();
    let progress = ProgressBar::new(options.orders.into());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} orders, {per_sec}") {
        progress.set_style(style);
    }
    let calls = (1..=options.orders).map(|id| {
        let call = process_order::call(&client, &order(id)).timeout(PATIENCE);
        async move { call.await.map_err(|error| format!("order {id}: {error}")) }
    });
    let mut calls = stream::iter(calls).buffer_unordered(CONCURRENCY);
    let mut look_after = tokio::time::interval(LOOK_AFTER);
    let (mut done, mut repeated, mut kills) = (0, 0, 0);
    loop {
        tokio::select! {
            is_new = calls.next() => {
                let Some(is_new) = is_new else { break };
                repeated += u32::from(!is_new?);
                done += 1;
                progress.set_position(done.into());
                if kills < options.kill && done >= share(options, kills + 1) {
                    let node = &mut nodes[kills % options.nodes];
                    progress.suspend(|| println!("Killing {} after {done} orders", node.name));
                    node.server.process.kill()?;
                    node.server.process.wait()?;
                    kills += 1;
                }
            }
            _ = look_after.tick() => {
                if replace_dead(&mut nodes, options, &progress).await? {
                    running.send_replace(endpoints(&nodes));
                }
            }
        }
    }
    drop(calls);
    progress.finish_and_clear();
    let took = begin.elapsed();
    // A node may have been killed with the last order.
    replace_dead(&mut nodes, options, &progress).await?;

    let last = nodes.last().ok_or("there is no node")?;
    let stored = all_stored(&last.client).await?;
    for node in nodes {
        node.end().await?;
    }
    client.close().await;
    summarize(&stored, options.orders, repeated, took)
}

/// Returns the number of orders after which the kill with this number happens.
fn share(options: &Options, kill: usize) -> u32 {
    let (kill, kills) = (kill as u64, options.kill as u64);
    u32::try_from(u64::from(options.orders) * kill / (kills + 1)).unwrap_or(u32::MAX)
}

/// Starts each node again that has died. Returns true if there was one.
async fn replace_dead(
    nodes: &mut [NodeProcess],
    options: &Options,
    progress: &ProgressBar,
) -> Result<bool, Box<dyn Error>> {
    let mut found = false;
    for node in nodes {
        let Some(status) = node.server.process.try_wait()? else { continue };
        progress.suspend(|| println!("{} has died ({status})", node.name));
        let again = NodeProcess::begin(node.name.clone(), options, false).await?;
        *node = again;
        found = true;
    }
    Ok(found)
}

/// Asks a node for everything that is stored.
async fn all_stored(client: &Client) -> Result<Vec<Stored>, Box<dyn Error>> {
    let mut all: Vec<Stored> = Vec::new();
    loop {
        let from = all.last().map_or(0, |stored| stored.order.id + 1);
        let page = stored_orders::call(client, from, PAGE).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

fn summarize(
    stored: &[Stored],
    orders: u32,
    repeated: u32,
    took: Duration,
) -> Result<(), Box<dyn Error>> {
    let is_right = |id: u32| {
        let found = stored.binary_search_by_key(&id, |stored| stored.order.id);
        found.is_ok_and(|index| stored[index].order == order(id))
    };
    let missing = (1..=orders).filter(|id| !is_right(*id)).count();
    let mut nodes: Vec<_> = stored.iter().map(|stored| &*stored.node).collect();
    nodes.sort_unstable();
    let per_node = nodes.chunk_by(|a, b| a == b);
    let per_node: Vec<_> = per_node.map(|all| format!("{} {}", all[0], all.len())).collect();
    println!(
        "Handed out {orders} orders in {:.2} s. {} are stored: {}",
        took.as_secs_f64(),
        stored.len(),
        per_node.join(", ")
    );
    let twice = stored.iter().filter(|stored| stored.deliveries > 1).count();
    println!("Came more than once, and were stored once: {twice} ({repeated} answered so)");
    if missing > 0 {
        return Err(format!("{missing} orders are not stored as they were handed out").into());
    }
    Ok(())
}

/// Prints the stored orders, which a node tells.
pub(crate) async fn list(options: &Options) -> Result<(), Box<dyn Error>> {
    if !options.store.exists() {
        return Err(format!("there is no {}", options.store.display()).into());
    }
    let node = NodeProcess::begin("node-1".to_owned(), options, false).await?;
    for Stored { order, node, deliveries } in all_stored(&node.client).await? {
        let Order { id, item, quantity } = order;
        println!("{id}: {quantity} {item}, stored by {node}, came {deliveries} times");
    }
    node.end().await
}
