//! The controller: it starts workers, hands out chunks of text, and checks the document.

use std::{
    error::Error,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use etcd_client::DeleteOptions;
use examples::{child::ChildServer, text};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rpc_core::Client;

use crate::{
    Options,
    document::{Document, read},
    input,
    worker::{lock_and_add, refused_writes, swap},
};

/// The time after which the late write of the frozen worker must have been refused.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time without an answer after which a worker counts as frozen.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(500);

pub(crate) async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let texts = input::read(&options.paths)?;
    let chunks: Vec<_> =
        texts.iter().flat_map(|all| text::chunks(all, options.chunk.get())).collect();
    if chunks.is_empty() {
        return Err("there is no text".into());
    }
    let begin = Instant::now();
    let mut serial = Document::default();
    for (number, chunk) in (0..).zip(&chunks) {
        serial.add(number, chunk);
    }
    println!(
        "{} chunks with {} different words, counted here in {:.0?}",
        chunks.len(),
        serial.counts.len(),
        begin.elapsed()
    );

    let mut etcd = etcd_client::Client::connect([&options.etcd], None).await?;
    etcd.status().await.map_err(|error| {
        format!(
            "no etcd answers at {}: start one, or say `--etcd host:port` ({error})",
            options.etcd
        )
    })?;
    for way in [Way::Swap, Way::Lock] {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let key = format!("/shared_counts/{now}");
        let document = share(options, &chunks, &key, way, &mut etcd).await;
        etcd.delete(key, Some(DeleteOptions::new().with_prefix())).await?;
        if document? != serial {
            return Err("the document differs from the serial count".into());
        }
        println!("The document equals the serial count.");
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Swap,
    Lock,
}

/// Lets workers add all chunks to the document `key`, and returns the document.
async fn share(
    options: &Options,
    chunks: &[&str],
    key: &str,
    way: Way,
    etcd: &mut etcd_client::Client,
) -> Result<Document, Box<dyn Error>> {
    let arguments = |name: &str| {
        ["--worker", name, "--etcd", &options.etcd, "--key", key].map(str::to_owned).to_vec()
    };
    let names = (1..=options.workers.get()).map(|number| format!("worker-{number}"));
    let workers: Result<Vec<_>, _> =
        names.map(|name| ChildServer::start(&name, &arguments(&name))).collect();
    let workers = workers?;
    let endpoints: Vec<_> = workers.iter().map(|worker| worker.endpoint.as_str()).collect();
    let client = Client::builder().keepalive_timeout(KEEPALIVE_TIMEOUT).connect(&endpoints).await?;

    let frozen = &workers[0];
    if way == Way::Lock && workers.len() > 1 {
        // It gets the first chunk, and freezes with the lock. The chunk is handed out again below.
        let to_frozen = Client::builder().retries(0).keepalive_timeout(KEEPALIVE_TIMEOUT);
        let to_frozen = to_frozen.connect(&frozen.endpoint).await?;
        let lost = lock_and_add::call(&to_frozen, 0, chunks[0].to_owned(), true).await;
        let lost = lost.err().ok_or("the worker did not freeze")?;
        println!("worker-1 does not answer: {lost}");
    }
    if way == Way::Lock && workers.len() > 1 {
        // The wait for the end of the frozen worker's lease is no part of the rate.
        lock_and_add::call(&client, 0, chunks[0].to_owned(), false).await?;
    }
    let begin = Instant::now();
    let numbered = (0..).zip(chunks.iter().map(|chunk| (*chunk).to_owned()));
    let tries: u32 = stream::iter(numbered)
        .map(|(number, text)| {
            let client = &client;
            async move {
                match way {
                    Way::Swap => swap::call(client, number, text).await,
                    Way::Lock => lock_and_add::call(client, number, text, false).await.map(|()| 1),
                }
            }
        })
        .buffer_unordered(2 * workers.len())
        .try_fold(0, async |sum, tries| Ok(sum + tries))
        .await?;
    let took = begin.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss)] // There are not so many.
    let rate = chunks.len() as f64 / took;
    let count = workers.len();
    match way {
        Way::Swap => println!(
            "Compare-and-swap: {count} workers, {took:.2} s, {rate:.0} changes/s, {tries} tries"
        ),
        Way::Lock => println!("Lock: {count} workers, {took:.2} s, {rate:.0} changes/s"),
    }
    if way == Way::Lock && workers.len() > 1 {
        Command::new("kill").args(["-CONT", &frozen.process.id().to_string()]).status()?;
        println!("worker-1 goes on, with what it had read before");
        let to_frozen = Client::connect(&frozen.endpoint).await?;
        let refused = async {
            while refused_writes::call(&to_frozen).await? == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok::<_, rpc_core::RpcError>(())
        };
        tokio::time::timeout(PATIENCE, refused).await.map_err(|_| "its write was accepted")??;
        println!("Its late write was refused.");
    }
    let (document, _) = read(etcd, key).await?;
    Ok(document)
}
