//! A worker: it adds chunks to the document as it is told.

use std::{
    error::Error,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use etcd_client::Client;
use rpc_core::{Server, remote};

use crate::{
    Options,
    document::{Lock, add_by_swap, read},
};

/// The state of a worker, which its functions share.
pub(crate) struct Worker {
    name: String,
    etcd: Client,
    key: String,
    /// The number of writes that were refused because the lock belonged to somebody else.
    refused: AtomicU32,
}

/// Adds a chunk by compare-and-swap. Returns the number of tries.
#[remote(idempotent)]
pub(crate) async fn swap(
    #[state] worker: std::sync::Arc<Worker>,
    chunk: u32,
    text: String,
) -> Result<u32, String> {
    add_by_swap(&mut worker.etcd.clone(), &worker.key, chunk, &text).await
}

/// Adds a chunk under the lock. If `freezes`, this process freezes while it has the lock, before it
/// writes.
#[remote(idempotent)]
pub(crate) async fn lock_and_add(
    #[state] worker: std::sync::Arc<Worker>,
    chunk: u32,
    text: String,
    freezes: bool,
) -> Result<(), String> {
    // A task of its own: it also goes on when the caller has given this worker up, which is the
    // danger that the token is for.
    let work = tokio::spawn(async move { add_under_lock(&worker, chunk, &text, freezes).await });
    work.await.map_err(|error| error.to_string())?
}

async fn add_under_lock(
    worker: &Worker,
    chunk: u32,
    text: &str,
    freezes: bool,
) -> Result<(), String> {
    let Worker { name, key, .. } = worker;
    let etcd = &mut worker.etcd.clone();
    loop {
        let lock = Lock::acquire(etcd, &format!("{key}/lock")).await?;
        let (mut document, _) = read(etcd, key).await?;
        document.add(chunk, text);
        if freezes {
            eprintln!("{name}: has the lock with the token {}, and freezes", lock.token);
            let id = std::process::id().to_string();
            Command::new("kill")
                .args(["-STOP", &id])
                .status()
                .map_err(|error| error.to_string())?;
        }
        if lock.write(etcd, key, &document).await? {
            lock.release(etcd).await;
            return Ok(());
        }
        worker.refused.fetch_add(1, Ordering::Relaxed);
        eprintln!("{name}: its write with the token {} was refused", lock.token);
        if freezes {
            // Its chunk was handed to another worker meanwhile.
            return Err("it had lost the lock".to_owned());
        }
    }
}

/// Returns the number of writes that were refused because the lock belonged to somebody else.
#[remote(idempotent)]
pub(crate) fn refused_writes(#[state] worker: &Worker) -> u32 {
    worker.refused.load(Ordering::Relaxed)
}

pub(crate) async fn run(name: &str, options: &Options) -> Result<(), Box<dyn Error>> {
    let etcd = Client::connect([&options.etcd], None).await?;
    let (name, key) = (name.to_owned(), options.key.clone());
    let server = Server::builder()
        .state(Worker { name, etcd, key, refused: AtomicU32::new(0) })
        .serve::<swap>()
        .serve::<lock_and_add>()
        .serve::<refused_writes>()
        .bind("tcp://127.0.0.1:0")
        .await?;
    examples::child::serve(server, std::future::pending()).await
}
