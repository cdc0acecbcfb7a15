//! The main job: counts the words of many files with a remote function, over real sockets.
//!
//! ```sh
//! cargo run --release --example count_words                           # this workspace's *.md and *.rs
//! cargo run --release --example count_words -- book.txt notes/        # files and folders
//! cargo run --release --example count_words -- --json book.txt        # all counts, as JSON
//! cargo run --release --example count_words -- --server tcp://10.0.0.5:5555 --server tcp://10.0.0.6:5555
//! ```
//!
//! It reads the input, cuts it at whitespace into tasks, calls [`count_words`] for each, with several calls
//! under way at a time, and adds the counts up. Without `--server` it starts a server in this process; calls
//! go through ZeroMQ all the same.

mod input;
mod output;

use std::{cell::RefCell, error::Error, iter, num::NonZero, path::PathBuf, process::ExitCode, time::Instant};

use clap::Parser;
use examples::{count_words, text};
use futures_util::stream::{StreamExt as _, select_all};
use indicatif::{ProgressBar, ProgressStyle};
use rpc_core::{Client, RpcError, Server};

use self::output::{Counts, Summary};

/// Counts the words of text files with a remote function.
#[derive(Parser)]
struct Options {
    /// Files and folders; without any, the *.md and *.rs files of the workspace.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A server to use, may be given several times; without any, one is started in this process.
    #[arg(long = "server", value_name = "ENDPOINT")]
    servers: Vec<String>,
    /// How many bytes of text go into a call, about: a word is never cut. With much less the calls cost more
    /// than the counting, with much more a small input keeps one core busy and not all.
    #[arg(long, value_name = "BYTES", default_value = "65536")]
    chunk: NonZero<usize>,
    /// How many calls are under way at once on each server: enough that its workers never wait for us.
    #[arg(long, value_name = "N", default_value = "16")]
    concurrency: NonZero<usize>,
    /// How many of the most frequent words are shown.
    #[arg(long, value_name = "N", default_value = "20")]
    top: usize,
    /// Print all counts as one JSON object, and nothing else.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    examples::exit(run(Options::parse()).await)
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    // A mistake in the input is found before any work is done.
    let texts = input::read(&options.paths)?;
    let tasks = cut(&texts, options.chunk.get());

    let mut own_server = None;
    let mut endpoints = options.servers;
    if endpoints.is_empty() {
        let builder = Server::builder().serve::<count_words>();
        let server = builder.bind("tcp://127.0.0.1:0").await?.spawn()?;
        endpoints.push(server.endpoint().to_owned());
        own_server = Some(server);
    }
    let mut clients = Vec::new();
    for endpoint in &endpoints {
        clients.push(Client::connect(endpoint).await?);
    }

    let start = Instant::now();
    let counts = count(&clients, &tasks, options.concurrency.get()).await?;
    let took = start.elapsed();

    if let Some(server) = own_server {
        server.shutdown().await;
    }
    let printed = if options.json {
        output::print_json(&counts)
    } else {
        let summary = Summary {
            files: texts.len(),
            bytes: texts.iter().map(String::len).sum(),
            calls: tasks.len(),
            endpoints,
            took,
        };
        output::print(&counts, options.top, &summary)
    };
    printed.map_err(|error| format!("cannot write to stdout: {error}").into())
}

/// The end of a file ends a word, so each file's text is cut on its own.
fn cut(texts: &[String], size: usize) -> Vec<&str> {
    texts.iter().flat_map(|text| text::chunks(text, size)).collect()
}

/// Calls the function for every task. All servers take from one queue, so that a fast one takes more.
async fn count(clients: &[Client], tasks: &[&str], concurrency: usize) -> Result<Counts, RpcError> {
    let queue = RefCell::new(tasks.iter());
    let calls = clients.iter().map(|client| {
        let tasks = iter::from_fn(|| queue.borrow_mut().next());
        count_words::map(client, tasks).concurrency(concurrency)
    });
    let mut results = select_all(calls);

    let progress = progress_bar(tasks.len());
    let mut all = Counts::new();
    while let Some((_, result)) = results.next().await {
        // On the first error the calls that are still under way are dropped, which cancels them.
        for (word, count) in result? {
            *all.entry(word).or_default() += count;
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(all)
}

/// Shows itself on stderr, and only if that is a terminal.
fn progress_bar(calls: usize) -> ProgressBar {
    let template = "{bar:40} {pos}/{len} calls, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::new(calls as u64).with_style(style)
}
