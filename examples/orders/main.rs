//! A controller that hands orders to nodes, which store each of them exactly once, even though nodes
//! are killed half-way.
//!
//! ```sh
//! # 2,000 orders on three nodes, of which two are killed:
//! cargo run --release --features orders --example orders
//! # Through a RabbitMQ broker:
//! cargo run --release --features orders,amqp --example orders -- --broker amqp://localhost
//! # The orders that are stored, asked of a node that is started for that:
//! cargo run --release --features orders --example orders -- --list
//! ```
//!
//! The controller starts this program again for each node, and talks to it by remote functions:
//! `start`, `process_order` and `end`. All nodes store into one `SQLite` file. An order that may have
//! been stored by a node that died is handed to another node, so `process_order` must bear to run
//! twice: the id of the order and its effect are written in one transaction, and the second time
//! changes nothing. That is what makes it *exactly once*; neither sockets nor a broker can.

mod controller;
mod node;
mod store;

use std::{error::Error, num::NonZero, path::PathBuf, process::ExitCode};

use clap::Parser;

/// Hands orders to nodes, which store each of them exactly once.
#[derive(Parser)]
struct Options {
    /// The number of nodes.
    #[arg(long, value_name = "N", default_value = "3")]
    nodes: NonZero<usize>,
    /// The number of orders.
    #[arg(long, value_name = "N", default_value = "2000")]
    orders: u32,
    /// The number of nodes that are killed with SIGKILL half-way, and started again.
    #[arg(long, value_name = "N", default_value = "2")]
    kill: usize,
    /// The broker through which the orders go, such as `amqp://localhost`. By default, they go over
    /// tcp.
    #[arg(long, value_name = "ENDPOINT")]
    broker: Option<String>,
    /// The `SQLite` file. Orders that are there already are not stored again.
    #[arg(long, value_name = "PATH", default_value = "orders.sqlite")]
    store: PathBuf,
    /// Prints the stored orders, and ends.
    #[arg(long)]
    list: bool,
    /// Runs as a node with this name. The controller starts nodes with it.
    #[arg(long, value_name = "NAME", hide = true)]
    node: Option<String>,
    /// For tests: a step of an order at which the first node dies, as in `100:stored`.
    #[arg(long, value_name = "ORDER:STEP", hide = true)]
    die: Option<node::Death>,
}

#[tokio::main]
async fn main() -> ExitCode {
    examples::exit(run(Options::parse()).await)
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    match &options.node {
        Some(name) => node::run(name, &options).await,
        None if options.kill as u64 >= u64::from(options.orders) => {
            Err("`--kill` must be less than `--orders`: a node is killed between two orders".into())
        }
        None if options.list => controller::list(&options).await,
        None => controller::run(&options).await,
    }
}
