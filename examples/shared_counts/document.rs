//! The document in etcd, and the two ways to change it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use etcd_client::{Client, Compare, CompareOp, Error, GetOptions, LockOptions, Txn, TxnOp};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinHandle, time};

/// The shared document, stored as JSON. It must stay below the limit of etcd for a value, which is 1.5 MiB.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Document {
    pub(crate) counts: BTreeMap<String, u64>,
    /// The numbers of the chunks that are counted.
    pub(crate) chunks: BTreeSet<u32>,
}

impl Document {
    /// Adds the words of a chunk, unless they are there already.
    pub(crate) fn add(&mut self, chunk: u32, text: &str) {
        if self.chunks.insert(chunk) {
            for word in text.split_whitespace() {
                *self.counts.entry(word.to_owned()).or_default() += 1;
            }
        }
    }
}

/// A document that is stored, and the revision of its last change. It is 0 if there is none.
pub(crate) async fn read(client: &mut Client, key: &str) -> Result<(Document, i64), String> {
    let found = client.get(key, None).await.map_err(text)?;
    let Some(kv) = found.kvs().first() else { return Ok((Document::default(), 0)) };
    let document = serde_json::from_slice(kv.value()).map_err(|error| error.to_string())?;
    Ok((document, kv.mod_revision()))
}

/// Adds a chunk by compare-and-swap: the change is made only if nobody else has changed the document
/// since it was read, and otherwise tried again. Returns the number of tries.
pub(crate) async fn add_by_swap(
    client: &mut Client,
    key: &str,
    chunk: u32,
    words: &str,
) -> Result<u32, String> {
    for tries in 1.. {
        let (mut document, revision) = read(client, key).await?;
        document.add(chunk, words);
        let unchanged = Compare::mod_revision(key, CompareOp::Equal, revision);
        if write(client, key, &document, unchanged).await? {
            return Ok(tries);
        }
        // The others are as fast as this one. One that waits a little at random gets through.
        time::sleep(Duration::from_micros(fastrand::u64(..500 * u64::from(tries.min(20))))).await;
    }
    unreachable!("it is tried without end")
}

/// The time to live of the lease of a lock, in seconds: another worker waits so long for one that is
/// frozen.
const LOCK_TTL: i64 = 2;

/// A lock that this process has, or had.
pub(crate) struct Lock {
    key: Vec<u8>,
    /// The revision at which the key of the lock was made. Each holder has a higher one.
    pub(crate) token: i64,
    lease: i64,
    renewing: JoinHandle<()>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Lock {
    /// Waits until this process has the lock.
    pub(crate) async fn acquire(client: &mut Client, name: &str) -> Result<Self, String> {
        let lease = client.lease_grant(LOCK_TTL, None).await.map_err(text)?.id();
        let (mut keeper, mut answers) = client.lease_keep_alive(lease).await.map_err(text)?;
        let renewing = tokio::spawn(async move {
            while keeper.keep_alive().await.is_ok()
                && matches!(answers.message().await, Ok(Some(_)))
            {
                time::sleep(Duration::from_millis(500)).await;
            }
        });
        let mut lock = Self { key: Vec::new(), token: 0, lease, renewing };
        let options = LockOptions::new().with_lease(lease);
        let locked = client.lock(name, Some(options)).await.map_err(text)?;
        lock.key = locked.key().to_vec();
        let keys_only = GetOptions::new().with_keys_only();
        let found = client.get(locked.key(), Some(keys_only)).await.map_err(text)?;
        let kv = found.kvs().first().ok_or("the lease of the lock has ended at once")?;
        lock.token = kv.create_revision();
        Ok(lock)
    }

    /// Writes the document, if this process still has the lock. Returns false if it has not.
    pub(crate) async fn write(
        &self,
        client: &mut Client,
        key: &str,
        document: &Document,
    ) -> Result<bool, String> {
        let held = Compare::create_revision(self.key.as_slice(), CompareOp::Equal, self.token);
        write(client, key, document, held).await
    }

    /// Gives the lock up.
    pub(crate) async fn release(self, client: &mut Client) {
        // It ends by itself a little later.
        let _ = client.lease_revoke(self.lease).await;
    }
}

/// Writes the document if `condition` holds. Returns false if it does not.
async fn write(
    client: &mut Client,
    key: &str,
    document: &Document,
    condition: Compare,
) -> Result<bool, String> {
    let value = serde_json::to_vec(document).map_err(|error| error.to_string())?;
    let txn = Txn::new().when([condition]).and_then([TxnOp::put(key, value, None)]);
    Ok(client.txn(txn).await.map_err(text)?.succeeded())
}

#[allow(clippy::needless_pass_by_value)] // For `map_err`.
fn text(error: Error) -> String {
    error.to_string()
}
