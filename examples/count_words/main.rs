//! The main job: counts the words of many files with a remote function, over real sockets.
//!
//! ```sh
//! cargo run --release --example count_words                           # this workspace's *.md and *.rs
//! cargo run --release --example count_words -- book.txt notes/        # files and folders
//! cargo run --release --example count_words -- --json book.txt        # all counts, as JSON
//! cargo run --release --example count_words -- --server tcp://10.0.0.5:5555 --server tcp://10.0.0.6:5555
//! ```
//!
//! It reads the input, cuts it at whitespace into tasks, calls [`count_words`] for each, with
//! several calls under way at a time, and adds the counts up. Without `--server` it starts a server
//! in this process; calls go through ZeroMQ all the same. With several, calls go to whichever has
//! less to do; a server that dies, freezes or is restarted costs time and no counts, because the
//! function is idempotent and so its calls are made again elsewhere.

mod input;
mod output;

use std::{
    error::Error,
    num::NonZero,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use examples::{count_words, text};
use indicatif::{ProgressBar, ProgressStyle};
use rpc_core::{Client, Connectivity, RpcError, Server};

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
    /// How many bytes of text go into a call, about: a word is never cut. With much less the calls
    /// cost more than the counting, with much more a small input keeps one core busy and not all.
    #[arg(long, value_name = "BYTES", default_value = "65536")]
    chunk: NonZero<usize>,
    /// How many calls are under way at once on each server: enough that its workers never wait for
    /// us.
    #[arg(long, value_name = "N", default_value = "16")]
    concurrency: NonZero<usize>,
    /// How many of the most frequent words are shown.
    #[arg(long, value_name = "N", default_value = "20")]
    top: usize,
    /// Print all counts as one JSON object, and nothing else.
    #[arg(long)]
    json: bool,
}

/// A server that owes counts answers pings in milliseconds; this long without a word, it is frozen
/// or cut off.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a task may take, over all servers that it is tried on: as long as somebody will watch.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often the progress bar looks at the servers.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

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
    let client = Client::builder().keepalive_timeout(KEEPALIVE_TIMEOUT).connect(&endpoints).await?;

    let start = Instant::now();
    let concurrency = options.concurrency.get() * endpoints.len();
    let counts = count(&client, &tasks, concurrency).await?;
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

/// Calls the function for every task.
async fn count(client: &Client, tasks: &[&str], concurrency: usize) -> Result<Counts, RpcError> {
    let mut results = count_words::map(client, tasks).concurrency(concurrency).timeout(PATIENCE);
    let progress = progress_bar(tasks.len());
    let mut look_again = tokio::time::interval(LOOK_AGAIN);
    let mut all = Counts::new();
    loop {
        tokio::select! {
            result = results.next() => {
                let Some((_, counts)) = result else { break };
                // On the first error the calls that are still under way are dropped, which cancels
                // them.
                for (word, count) in counts? {
                    *all.entry(word).or_default() += count;
                }
                progress.inc(1);
            }
            _ = look_again.tick() => progress.set_message(what_happens(client)),
        }
    }
    progress.finish_and_clear();
    Ok(all)
}

/// Shows itself on stderr, and only if that is a terminal.
fn progress_bar(calls: usize) -> ProgressBar {
    let template = "{bar:40} {pos}/{len} calls, {per_sec}, {eta} left{msg}";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::new(calls as u64).with_style(style)
}

/// What the servers are doing that they should not, and how many calls that has cost.
fn what_happens(client: &Client) -> String {
    let status = client.status();
    let troubled = status.endpoints.iter().filter(|server| server.state != Connectivity::Connected);
    let mut lines: Vec<_> =
        troubled.map(|server| format!("\n  {}: {}", server.endpoint, server.state)).collect();
    if status.retries > 0 {
        lines.push(format!("\n  {} calls were made again", status.retries));
    }
    lines.concat()
}
