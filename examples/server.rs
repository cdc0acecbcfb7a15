//! A server of its own process: serves every function of this package's library until it is told to
//! stop.
//!
//! ```sh
//! cargo run --release --example server
//! cargo run --release --example server -- --bind tcp://127.0.0.1:0 --bind ipc:///tmp/words --workers 4
//! ```
//!
//! It writes a line for each endpoint and for each function to stdout, and its log to stderr. On
//! SIGTERM or Ctrl-C it takes no new calls, ends those that run, and exits with 0.

use std::{
    error::Error,
    future::Future,
    io::{self, IsTerminal as _, Write as _},
    num::NonZero,
    process::ExitCode,
};

use clap::Parser;
use rpc_core::{Engine, ServerHandle};
use tokio::signal::unix::{SignalKind, signal};

/// Serves the functions of the examples.
#[derive(Parser)]
struct Options {
    /// Where to listen; port 0 stands for any that is free.
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:5555")]
    bind: Vec<String>,
    /// How many threads run sync functions; one per core unless set.
    #[arg(long, value_name = "N")]
    workers: Option<NonZero<usize>>,
    /// What carries ZeroMQ: `zeromq`, or `omq` if it was built with `--features omq`.
    #[arg(long, value_name = "ENGINE", default_value = "zeromq", value_parser = engine)]
    engine: Engine,
}

fn engine(name: &str) -> Result<Engine, &'static str> {
    match name {
        "zeromq" => Ok(Engine::Zeromq),
        #[cfg(feature = "omq")]
        "omq" => Ok(Engine::Omq),
        _ => Err("there is `zeromq`, and with `--features omq` also `omq`"),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).init();
    examples::exit(serve(Options::parse()).await)
}

async fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    // From here on the signals do not kill. Whoever reads that we listen may stop us at once.
    let stop = stop_signal()?;
    let mut builder = examples::server().engine(options.engine);
    if let Some(workers) = options.workers {
        builder = builder.workers(workers.get());
    }
    let server = builder.bind(options.bind).await?.spawn()?;
    announce(&server)?;
    stop.await;
    server.shutdown().await;
    Ok(())
}

/// Tells where the server listens, and what it serves.
fn announce(server: &ServerHandle) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for endpoint in server.endpoints() {
        writeln!(out, "listening on {endpoint}")?;
    }
    for function in server.functions() {
        let summary = function.doc.lines().next().unwrap_or_default();
        writeln!(out, "serving {}: {summary}", function.name)?;
    }
    // A parent process may read this through a pipe.
    out.flush()
}

/// Is ready when the process is asked to stop.
fn stop_signal() -> io::Result<impl Future> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
