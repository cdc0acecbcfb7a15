//! A client without an async runtime: everything that can be awaited has `.wait()` as well.
//!
//! ```sh
//! # With a server in the same process:
//! cargo run --release --example blocking
//! # With the server that `cargo run --release --example server` starts:
//! cargo run --release --example blocking -- --server tcp://127.0.0.1:5555
//! ```

use std::{error::Error, process::ExitCode, thread, time::Duration};

use clap::Parser;
use examples::{add, count_words, divide, sleep_ms};
use rpc_core::{Client, ErrorKind, RpcError};
use tokio::runtime::Runtime;

/// Calls the example functions from ordinary threads.
#[derive(Parser)]
struct Options {
    /// The server to call. By default, the program starts one in this process.
    #[arg(long, value_name = "ENDPOINT")]
    server: Option<String>,
}

fn main() -> ExitCode {
    examples::exit(run(Options::parse()))
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let Some(endpoint) = options.server else {
        // Only the server needs a runtime. It runs on the runtime's threads, so this thread may
        // block.
        let runtime = Runtime::new()?;
        let server = runtime.block_on(examples::server().bind("tcp://127.0.0.1:0"))?.spawn()?;
        call_all(server.endpoint())?;
        runtime.block_on(server.shutdown());
        return Ok(());
    };
    call_all(&endpoint)
}

/// Calls the functions of the server at this endpoint.
fn call_all(endpoint: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(endpoint).wait()?;
    println!("connected to {}", client.endpoints().join(", "));

    println!("add(1, 2) = {}", add::call(&client, 1, 2).wait()?);

    match divide::call(&client, 1, 0).wait() {
        Ok(quotient) => println!("1 / 0 = {quotient}"),
        Err(error) => println!("1 / 0: {error}"),
    }

    // `wait` runs the call. Without it, nothing is sent.
    let call = sleep_ms::call(&client, 60_000).timeout(Duration::from_millis(100));
    let error = call.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    println!("{error}");

    // `wait` turns the stream of results into an iterator. Two calls at most are in flight.
    let texts = ["a b", "c", "", "d e f"];
    for (index, result) in count_words::map(&client, texts).concurrency(2).wait() {
        println!("text {index} has {} words", result?.len());
    }

    from_many_threads(&client)?;
    Ok(())
}

/// Makes calls from several threads. They share one client, and so one connection.
fn from_many_threads(client: &Client) -> Result<(), RpcError> {
    let sums = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|n| scope.spawn(move || add::call(client, n, n).wait())).collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("it does not panic"));
        joined.collect::<Result<Vec<_>, _>>()
    })?;
    println!("8 threads got {sums:?}");
    Ok(())
}
