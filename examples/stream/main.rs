//! Streams in both directions, between two processes: tails a file while it grows, uploads bytes
//! that the server hashes as they come, and shows a progress bar of work on the server.
//!
//! ```sh
//! # All three, with an upload of 1 GiB:
//! cargo run --release --example stream
//! # One of them:
//! cargo run --release --example stream -- tail
//! cargo run --release --example stream -- upload --mib 4096
//! cargo run --release --example stream -- progress
//! ```
//!
//! The program starts itself again as a server. The memory of both processes is shown after the
//! upload: it does not depend on the number of bytes.

mod functions;

use std::{
    error::Error,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::{Parser, Subcommand};
use examples::child::{self, ChildServer};
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use rpc_core::{Client, Server};
use sha2::{Digest as _, Sha256};

use self::functions::{Logs, hash, hex, tail, work};

/// Shows streams in both directions.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    part: Option<Part>,
    /// Runs as the server, with the files of this folder. The program starts the server with it.
    #[arg(long, value_name = "PATH", hide = true)]
    serve: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Part {
    /// Follows a file while lines are added to it.
    Tail,
    /// Uploads bytes, which the server hashes.
    Upload {
        /// The number of MiB.
        #[arg(long, value_name = "N", default_value = "1024")]
        mib: u64,
    },
    /// Follows work that tells how far it has come.
    Progress,
}

/// The bytes of an item of the upload.
const CHUNK: usize = 64 * 1024;
/// The lines that are added to the file.
const LINES: u32 = 10;

#[tokio::main]
async fn main() -> ExitCode {
    examples::exit(run(Options::parse()).await)
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = options.serve {
        let server = Server::builder().state(Logs(folder)).serve::<tail>().serve::<hash>();
        let server = server.serve::<work>().bind("tcp://127.0.0.1:0").await?;
        return child::serve(server, std::future::pending()).await;
    }
    let folder = std::env::temp_dir().join(format!("rpc-stream-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let arguments = ["--serve".to_owned(), folder.display().to_string()];
    let server = ChildServer::start("the server", &arguments)?;
    let client = Client::connect(&server.endpoint).await?;
    let parts = match options.part {
        Some(part) => vec![part],
        None => vec![Part::Tail, Part::Upload { mib: 1024 }, Part::Progress],
    };
    for part in parts {
        match part {
            Part::Tail => follow(&client, &folder).await?,
            Part::Upload { mib } => upload(&client, mib, server.process.id()).await?,
            Part::Progress => progress(&client).await?,
        }
    }
    client.close().await;
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Prints the lines of a file as they are added to it.
async fn follow(client: &Client, folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut log = File::create(folder.join("work.log"))?;
    let writer = tokio::spawn(async move {
        for number in 1..=LINES {
            tokio::time::sleep(Duration::from_millis(50)).await;
            writeln!(log, "line {number}")?;
        }
        std::io::Result::Ok(())
    });
    let mut lines = tail::call(client, "work.log");
    for _ in 0..LINES {
        let line = lines.next().await.ok_or("a file that is followed has no end")??;
        println!("{line}");
    }
    // The server stops following the file.
    drop(lines);
    Ok(writer.await??)
}

/// Uploads so many MiB, and compares the hash of the server with that of what was sent.
async fn upload(client: &Client, mib: u64, server: u32) -> Result<(), Box<dyn Error>> {
    let chunks = mib * (1024 * 1024 / CHUNK as u64);
    let bar = ProgressBar::new(mib * 1024 * 1024).with_style(ProgressStyle::with_template(
        "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}",
    )?);
    let (moving, start) = (bar.clone(), Instant::now());
    let sent = stream::iter(0..chunks).map(move |number| {
        moving.inc(CHUNK as u64);
        chunk(number)
    });
    let received = hash::call(client, sent).await?;
    let took = start.elapsed();
    bar.finish();
    let mut expected = Sha256::new();
    (0..chunks).for_each(|number| expected.update(chunk(number)));
    if received != hex(&expected.finalize()) {
        return Err("the server has hashed other bytes".into());
    }
    println!("{mib} MiB in {took:.1?}, SHA-256 {received}");
    for (who, pid) in [("client", std::process::id()), ("server", server)] {
        println!("memory of the {who}: {}", memory(pid)?);
    }
    Ok(())
}

/// Returns the bytes of one item.
fn chunk(number: u64) -> Bytes {
    let mut chunk = vec![0; CHUNK];
    chunk[..8].copy_from_slice(&number.to_be_bytes());
    Bytes::from(chunk)
}

/// Returns the most memory that a process has used so far, as Linux reports it.
fn memory(pid: u32) -> Result<String, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(format!("{} at most", peak.ok_or("Linux does not report it")?.trim()))
}

/// Shows how far work on the server has come.
async fn progress(client: &Client) -> Result<(), Box<dyn Error>> {
    let mut steps = work::call(client, 100);
    let bar =
        ProgressBar::new(100).with_style(ProgressStyle::with_template("{bar:40} {pos} % {msg}")?);
    while let Some(step) = steps.next().await {
        let step = step?;
        bar.set_position(step.percent.into());
        bar.set_message(step.what);
    }
    bar.finish();
    println!("the work is done");
    Ok(())
}
