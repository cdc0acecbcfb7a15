//! A server with metrics, which Prometheus can read.
//!
//! ```sh
//! cargo run --example metered --features metrics
//! curl http://127.0.0.1:9464/metrics
//! ```
//!
//! The library counts with the facade [`metrics`](https://docs.rs/metrics), if it is built with the
//! feature of that name. This program chooses where the numbers go: the recorder must be there before
//! the server and its clients. docs/OPERATIONS.md lists the metrics.

use std::{error::Error, net::SocketAddr, process::ExitCode};

use clap::Parser;
use examples::{add, count_words, divide};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use rpc_core::{CallError, Client, Server};

/// Serves functions, and their metrics over HTTP.
#[derive(Parser)]
struct Options {
    /// The address at which Prometheus reads the metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9464")]
    metrics: SocketAddr,
    /// The endpoint to serve at.
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:5555")]
    bind: String,
}

/// The upper limits of the buckets for times, in seconds.
const SECONDS: [f64; 10] = [0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0];

#[tokio::main]
async fn main() -> ExitCode {
    examples::exit(run(Options::parse()).await)
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .with_http_listener(options.metrics)
        .install()?;
    let server = Server::builder()
        .serve::<add>()
        .serve::<count_words>()
        .serve::<divide>()
        .bind(&options.bind)
        .await?;
    println!("listening on {}", server.endpoint());
    let client = Client::connect(server.endpoint());
    let running = server.spawn()?;

    // A few calls, so that there is something to see.
    let client = client.await?;
    for n in 0..100 {
        let sum = add::call(&client, n, 1).await?;
        match divide::call(&client, sum, n % 10).await {
            Ok(_) | Err(CallError::Failed(_)) => {}
            Err(CallError::Rpc(error)) => return Err(error.into()),
        }
    }
    count_words::call(&client, "a b a").await?;
    client.call_dynamic::<()>("ad", ()).await.expect_err("there is no such function");
    println!("metrics at http://{}/metrics", options.metrics);
    tokio::signal::ctrl_c().await?;
    running.shutdown().await;
    Ok(())
}
