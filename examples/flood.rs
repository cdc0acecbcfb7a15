//! Many calls at once with default settings: sync, async and inline functions.
//!
//! ```sh
//! cargo run --release --example flood
//! cargo run --release --example flood -- --calls 20000 --clients 20
//! ```
//!
//! A server takes only so many calls of a client at a time, and tells the client how many. The
//! client keeps the other calls waiting in order, so that all of them end well, without retries.

use std::{
    error::Error,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use futures_util::future::join_all;
use rpc_core::{Call, Client, RemoteFn, RpcError, Server, remote};

/// Computes for 20 µs on a worker thread.
#[remote]
fn work(input: u64) -> u64 {
    let end = Instant::now() + Duration::from_micros(20);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    input
}

/// Waits for a second.
#[remote]
async fn wait(input: u64) -> u64 {
    tokio::time::sleep(Duration::from_secs(1)).await;
    input
}

/// Returns at once, on the thread that reads the sockets.
#[remote(inline)]
fn echo(input: u64) -> u64 {
    input
}

#[derive(Parser)]
struct Options {
    /// The number of calls that each client makes at once.
    #[arg(long, default_value_t = 100_000)]
    calls: u64,
    /// The number of clients.
    #[arg(long, default_value_t = 1)]
    clients: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    examples::exit(run(Options::parse()).await)
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let builder = Server::builder().serve::<work>().serve::<wait>().serve::<echo>();
    let server = builder.bind("tcp://127.0.0.1:0").await?.spawn()?;
    let mut clients = Vec::new();
    for _ in 0..options.clients {
        clients.push(Client::connect(server.endpoint()).await?);
    }
    let mut failed = 0;
    failed += flood("sync, 20 µs each", &clients, options.calls, work::call).await;
    failed += flood("async, 1 s each", &clients, options.calls, wait::call).await;
    failed += flood("inline", &clients, options.calls, echo::call).await;
    server.shutdown().await;
    if failed > 0 { Err(format!("{failed} calls failed").into()) } else { Ok(()) }
}

/// Makes `calls` calls on each client at once, and returns the number of those that failed.
async fn flood<F>(
    name: &str,
    clients: &[Client],
    calls: u64,
    call: impl Fn(&Client, u64) -> Call<F>,
) -> usize
where
    F: RemoteFn<Output = u64, Error = RpcError>,
{
    let begin = Instant::now();
    let of_one = |client| {
        let calls = join_all((0..calls).map(|input| call(client, input)));
        async { (0..).zip(calls.await).map(|(input, result)| result.map(|output| output == input)) }
    };
    let results: Vec<_> =
        join_all(clients.iter().map(of_one)).await.into_iter().flatten().collect();
    let succeeded = results.iter().filter(|result| matches!(result, Ok(true))).count();
    let (all, took) = (results.len(), begin.elapsed());
    println!("{name}: {succeeded} of {all} calls succeeded, in {took:.1?}");
    if let Some(error) = results.iter().find_map(|result| result.as_ref().err()) {
        println!("    the first error: {error:#}");
    }
    all - succeeded
}
