//! Workers in several processes add word counts to one document in etcd: once by compare-and-swap,
//! and once under a distributed lock, while one of them is frozen in the middle.
//!
//! ```sh
//! # With an etcd on this machine (Debian: `apt install etcd-server protobuf-compiler`):
//! cargo run --release --features etcd --example shared_counts
//! ```
//!
//! Do this only for data that must be shared *while* the work goes on. Word counts need neither: each
//! worker could return its counts, and whoever asked for them adds them up, as `count_words` does. It
//! is the fastest by far, because partial sums can be merged in any order. If data must be shared,
//! prefer compare-and-swap: it needs no lease and no clock, and nobody waits for a worker that has
//! died. A lock is for changes that touch more than one key, or something outside of etcd.
//!
//! A lock alone protects nothing. Its holder may be frozen, by a pause of its machine or of its
//! memory, until its lease has ended and another has the lock; then it goes on, and writes. So each
//! write states a *fencing token*, here the revision at which the key of the lock was made, and etcd
//! refuses it if that key is not there any more. What is written to must check the token itself.
//!
//! Each chunk of text has a number, and the document has the numbers of all chunks that it contains.
//! A chunk that is handed out twice is counted once.

mod controller;
mod document;
#[path = "../count_words/input.rs"]
mod input;
mod worker;

use std::{error::Error, num::NonZero, path::PathBuf, process::ExitCode};

use clap::Parser;

/// Adds word counts to a document that several processes share.
#[derive(Parser)]
struct Options {
    /// The files and folders to read. The default is the *.md and *.rs files of the workspace.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The etcd to use.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2379")]
    etcd: String,
    /// The number of worker processes.
    #[arg(long, value_name = "N", default_value = "4")]
    workers: NonZero<usize>,
    /// The approximate number of bytes of text in a change of the document.
    #[arg(long, value_name = "BYTES", default_value = "65536")]
    chunk: NonZero<usize>,
    /// Runs as a worker with this name. The controller starts workers with it.
    #[arg(long, value_name = "NAME", hide = true)]
    worker: Option<String>,
    /// The key of the document, for workers.
    #[arg(long, value_name = "KEY", hide = true, default_value = "")]
    key: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    examples::exit(run(Options::parse()).await)
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    match &options.worker {
        Some(name) => worker::run(name, &options).await,
        None => controller::run(&options).await,
    }
}
