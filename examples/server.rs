//! A server in a process of its own: serves all functions of this package's library until a signal
//! stops it.
//!
//! ```sh
//! cargo run --release --example server
//! # On two endpoints, with four worker threads:
//! cargo run --release --example server -- \
//!     --bind tcp://127.0.0.1:0 --bind ipc:///tmp/words --workers 4
//! # Registered in etcd while it serves, on every interface and any free port:
//! cargo run --release --features etcd --example server -- \
//!     --bind 'tcp://*:0' --register etcd://127.0.0.1:2379/words
//! # Encrypted, for the keys in a file (see docs/SECURITY.md):
//! cargo run --release --features curve --example server -- \
//!     --curve server.key_secret --allow allowed
//! ```
//!
//! The server prints a line for each endpoint and for each function to stdout, and logs to stderr.
//! On SIGTERM or Ctrl-C it drains: it accepts no new calls, lets the running calls finish, and
//! exits with code 0.

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

#[cfg(feature = "curve")]
use {
    rpc_core::{Access, SecretKey},
    std::path::PathBuf,
};

/// Serves the example functions.
#[derive(Parser)]
struct Options {
    /// The endpoint to listen on. Port 0 stands for any free port. Can be given several times.
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:5555")]
    bind: Vec<String>,
    /// A name to register while the server serves, such as `etcd://127.0.0.1:2379/words`. Can be given
    /// several times.
    #[arg(long, value_name = "NAME")]
    register: Vec<String>,
    /// The number of worker threads that run sync functions. The default is one per core.
    #[arg(long, value_name = "N")]
    workers: Option<NonZero<usize>>,
    /// The ZeroMQ engine: `zeromq`, or `omq` if the program was built with `--features omq`.
    #[arg(long, value_name = "ENGINE", default_value = "zeromq", value_parser = engine)]
    engine: Engine,
    /// The file with the secret key of the server. It then encrypts, on the engine `omq`.
    #[cfg(feature = "curve")]
    #[arg(long, value_name = "FILE", requires = "allow")]
    curve: Option<PathBuf>,
    /// The file with the keys that may connect, and the functions that each may call. It is read
    /// again when it changes.
    #[cfg(feature = "curve")]
    #[arg(long, value_name = "FILE", requires = "curve")]
    allow: Option<PathBuf>,
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
    // The signal handlers come first: a parent process may send a signal as soon as it has read an
    // endpoint, and that signal must not kill this process.
    let stop = stop_signal()?;
    let mut builder = examples::server().engine(options.engine);
    if let Some(workers) = options.workers {
        builder = builder.workers(workers.get());
    }
    #[cfg(feature = "curve")]
    if let (Some(secret), Some(allow)) = (&options.curve, &options.allow) {
        builder = builder.engine(Engine::Omq).curve(SecretKey::from_file(secret)?);
        builder = builder.access(Access::from_file(allow)?);
    }
    let server = builder.bind(options.bind).await?;
    let server = examples::names::register(server, &options.register)?.spawn()?;
    announce(&server)?;
    stop.await;
    server.shutdown().await;
    Ok(())
}

/// Prints the endpoints of the server and the functions that it serves.
fn announce(server: &ServerHandle) -> io::Result<()> {
    // Written at once, for a reader that only wants the first line.
    let mut out = io::BufWriter::new(io::stdout().lock());
    for endpoint in server.endpoints() {
        writeln!(out, "listening on {endpoint}")?;
    }
    for function in server.functions() {
        let summary = function.doc.lines().next().unwrap_or_default();
        writeln!(out, "serving {}: {summary}", function.name)?;
    }
    // A parent process may read these lines through a pipe.
    out.flush()
}

/// Returns a future that completes when a signal asks the process to stop.
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
