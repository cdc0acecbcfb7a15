//! A complete job: counts the words of many files with a remote function, over real sockets.
//!
//! ```sh
//! # The *.md and *.rs files of this workspace:
//! cargo run --release --example count_words
//! # Files and folders:
//! cargo run --release --example count_words -- book.txt notes/
//! # All counts, as JSON:
//! cargo run --release --example count_words -- --json book.txt
//! # On servers that run elsewhere:
//! cargo run --release --example count_words -- \
//!     --server tcp://10.0.0.5:5555 --server tcp://10.0.0.6:5555
//! # As one stream of text to a server, and one stream of counts back:
//! cargo run --release --example count_words -- --stream
//! # On the servers that a name in etcd, in the DNS or in a file stands for, now and later:
//! cargo run --release --features etcd --example count_words -- \
//!     --discover etcd://127.0.0.1:2379/words
//! # Through a RabbitMQ broker, with a server of its own:
//! cargo run --release --example count_words --features amqp -- \
//!     --broker amqp://guest:guest@127.0.0.1:5672/%2f
//! ```
//!
//! The program reads the input and splits it at whitespace into tasks. It calls [`count_words`] for
//! each task, with several calls in flight, and adds up the counts.
//!
//! Without `--server`, it starts a server in this process, and calls still go through ZeroMQ. With
//! several servers, each call goes to the one with less to do. A server that dies, freezes or
//! restarts costs time but no counts: the function is idempotent, so the client retries its calls
//! on another server.
//!
//! With `--broker`, its server takes calls from a queue, which it shares with all servers that were
//! started with `--bind` and the same endpoint. If one dies, the broker gives its calls to another.

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
use examples::{count_stream, count_words, names, text};
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use rpc_core::{CallError, Client, Connectivity, RpcError, Server};

use self::output::{Counts, Summary};

/// Counts the words of text files with a remote function.
#[derive(Parser)]
struct Options {
    /// The files and folders to read. The default is the *.md and *.rs files of the workspace.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A server to call. Can be given several times. By default, the program starts one in this
    /// process.
    #[arg(long = "server", value_name = "ENDPOINT")]
    servers: Vec<String>,
    /// The broker through which the calls go. The program starts a server that takes them from
    /// there, and others may help. It has the form `amqp://user:password@host:5672/vhost?queue=name`.
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "servers")]
    broker: Option<String>,
    /// Sends the text as one stream, and takes the counts as they merge. Only one worker counts.
    #[arg(long, conflicts_with = "broker")]
    stream: bool,
    /// The name of the servers to call: `etcd://host:2379/service`, `dns://name:port` or
    /// `file:///path`.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["servers", "broker"])]
    discover: Option<String>,
    /// The approximate number of bytes of text per call. No word is split. With much smaller
    /// chunks, the calls cost more than the counting. With much larger chunks, a small input keeps
    /// only one core busy.
    #[arg(long, value_name = "BYTES", default_value = "65536")]
    chunk: NonZero<usize>,
    /// The number of calls in flight per server. It should be large enough that a server's workers
    /// never wait for the client.
    #[arg(long, value_name = "N", default_value = "16")]
    concurrency: NonZero<usize>,
    /// The number of words to show, the most frequent first.
    #[arg(long, value_name = "N", default_value = "20")]
    top: usize,
    /// Prints all counts as one JSON object, and nothing else.
    #[arg(long)]
    json: bool,
}

/// The keepalive timeout. A server with calls in flight answers pings within milliseconds, however
/// busy it is. One that sends nothing for this long is frozen or cut off.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(1);
/// The timeout of a task, over all servers that it is tried on. A user hardly waits longer.
const PATIENCE: Duration = Duration::from_secs(300);
/// The number of servers that a name is expected to stand for.
const EXPECTED_SERVERS: usize = 8;
/// The interval at which the progress bar updates the status of the servers.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> ExitCode {
    examples::exit(run(Options::parse()).await)
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    // The input is read first, so that a mistake in it shows before any work is done.
    let texts = input::read(&options.paths)?;
    let tasks = cut(&texts, options.chunk.get());

    let mut own_server = None;
    let mut endpoints = options.servers;
    if endpoints.is_empty() && options.discover.is_none() {
        let builder = Server::builder().serve::<count_words>().serve::<count_stream>();
        let bind = options.broker.as_deref().unwrap_or("tcp://127.0.0.1:0");
        let server = builder.bind(bind).await?.spawn()?;
        // The endpoint that a server states is without the password.
        endpoints.push(options.broker.unwrap_or_else(|| server.endpoint().to_owned()));
        own_server = Some(server);
    }
    let builder = Client::builder().keepalive_timeout(KEEPALIVE_TIMEOUT);
    let client = match &options.discover {
        Some(name) => names::connect(builder, name)?.await?,
        None => builder.connect(&endpoints).await?,
    };

    let start = Instant::now();
    // More servers may come, and need calls as well.
    let servers = if options.discover.is_some() { EXPECTED_SERVERS } else { endpoints.len() };
    let concurrency = options.concurrency.get() * servers;
    let counts = if options.stream {
        let tasks = tasks.iter().map(|task| (*task).to_owned()).collect();
        stream_counts(&client, tasks).await?
    } else {
        count(&client, &tasks, concurrency).await?
    };
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
            parts: tasks.len(),
            unit: if options.stream { "items" } else { "calls" },
            // As the client names them: without the password of a broker.
            endpoints: client.endpoints().iter().map(ToString::to_string).collect(),
            took,
        };
        output::print(&counts, options.top, &summary)
    };
    printed.map_err(|error| format!("cannot write to stdout: {error}").into())
}

/// Splits the texts into tasks. Each text is split separately, because the end of a file ends a
/// word.
fn cut(texts: &[String], size: usize) -> Vec<&str> {
    texts.iter().flat_map(|text| text::chunks(text, size)).collect()
}

fn add(all: &mut Counts, counts: Counts) {
    for (word, count) in counts {
        *all.entry(word).or_default() += count;
    }
}

/// Sends the tasks as one stream, and adds up the counts that come back.
async fn stream_counts(client: &Client, tasks: Vec<String>) -> Result<Counts, CallError<String>> {
    let progress = progress_bar(tasks.len());
    let moving = progress.clone();
    let tasks = stream::iter(tasks).inspect(move |_| moving.inc(1));
    let mut merged = count_stream::call(client, tasks);
    let mut all = Counts::new();
    while let Some(counts) = merged.next().await {
        add(&mut all, counts?);
    }
    progress.finish_and_clear();
    Ok(all)
}

/// Calls the function for every task, and adds up the counts.
async fn count(client: &Client, tasks: &[&str], concurrency: usize) -> Result<Counts, RpcError> {
    let mut results = count_words::map(client, tasks).concurrency(concurrency).timeout(PATIENCE);
    let progress = progress_bar(tasks.len());
    let mut look_again = tokio::time::interval(LOOK_AGAIN);
    let mut all = Counts::new();
    loop {
        tokio::select! {
            result = results.next() => {
                let Some((_, counts)) = result else { break };
                // The first error ends this function. That drops the calls in flight, which cancels
                // them.
                add(&mut all, counts?);
                progress.inc(1);
            }
            _ = look_again.tick() => progress.set_message(what_happens(client)),
        }
    }
    progress.finish_and_clear();
    Ok(all)
}

/// Returns a progress bar. It appears on stderr, and only if stderr is a terminal.
fn progress_bar(calls: usize) -> ProgressBar {
    let template = "{bar:40} {pos}/{len} calls, {per_sec}, {eta} left{msg}";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::new(calls as u64).with_style(style)
}

/// Returns the servers that are not connected, with their state, and the number of retries so far.
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
