//! A trace through three processes: a client calls a server, whose function calls another server.
//!
//! ```sh
//! cargo run --example traced --features otel
//! ```
//!
//! Every call has a span `rpc.client` where it is made, and a span `rpc.server` where it runs. The
//! two hooks in `otel.rs` connect them to one trace of [OpenTelemetry](https://opentelemetry.io),
//! which `tracing-opentelemetry` makes of the spans. Here they are written to a file and shown as a
//! tree; a real program exports them with `opentelemetry-otlp`.

mod otel;
mod tree;

use std::{error::Error, fs::File, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use examples::child::{self, ChildServer};
use rpc_core::{Client, RpcError, Server, remote};

use crate::otel::Otel;

/// Shows one call as a trace through three processes.
#[derive(Parser)]
struct Options {
    /// The file for the spans. The default is one in the folder for temporary files.
    #[arg(long, value_name = "FILE")]
    spans: Option<PathBuf>,
    /// Serves, as the process with this name. The program starts such processes with it.
    #[arg(long, value_name = "NAME", hide = true)]
    serve: Option<String>,
    /// The server that the functions of this one call.
    #[arg(long, value_name = "ENDPOINT", hide = true)]
    next: Option<String>,
}

/// Returns the price of an item, in cents.
#[remote]
fn price(item: u32) -> u64 {
    tracing::info!("looking the price up");
    u64::from(item) * 100
}

/// Returns the prices of items together.
#[remote]
async fn total(#[state] prices: &Client, items: Vec<u32>) -> Result<u64, String> {
    let mut sum = 0;
    for item in items {
        sum += price::call(prices, item).await.map_err(|error: RpcError| error.to_string())?;
    }
    Ok(sum)
}

#[tokio::main]
async fn main() -> ExitCode {
    examples::exit(run(Options::parse()).await)
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let name = options.serve.as_deref().unwrap_or("client");
    let spans = options
        .spans
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("spans-{}.txt", std::process::id())));
    let file = File::options().create(true).append(true).open(&spans)?;
    let tracing = otel::begin(name.to_owned(), file);
    if options.serve.is_some() {
        serve(&options).await?;
    } else {
        let spans_text = spans.to_str().ok_or("the path is no UTF-8")?;
        call(spans_text).await?;
        tracing.shutdown()?;
        println!("{}", tree::show(&std::fs::read_to_string(&spans)?)?);
        if options.spans.is_none() {
            std::fs::remove_file(&spans)?;
        }
    }
    Ok(())
}

async fn call(spans: &str) -> Result<(), Box<dyn Error>> {
    let start = |name: &str, more: &[&str]| {
        let arguments = [&["--serve", name, "--spans", spans], more].concat();
        let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
        ChildServer::start(name, &arguments)
    };
    let prices = start("prices", &[])?;
    let shop = start("shop", &["--next", &prices.endpoint])?;
    let client = Client::builder().hook(Arc::new(Otel::new())).connect(&shop.endpoint).await?;
    let sum = total::call(&client, vec![1, 2]).await?;
    println!("The items cost {sum} cents together.");
    client.close().await;
    Ok(())
}

async fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let otel = Arc::new(Otel::new());
    let server = Server::builder().hook(Arc::clone(&otel));
    let server = match &options.next {
        None => server.serve::<price>(),
        Some(prices) => {
            let client = Client::builder().hook(otel).connect(prices).await?;
            server.serve::<total>().state(client)
        }
    };
    child::serve(server.bind("tcp://127.0.0.1:0").await?, std::future::pending()).await
}
