//! The discovery of a client: it lists the servers, and then watches what changes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use etcd_client::{Client, Error, EventType, GetOptions, KeyValue, WatchOptions, WatchStream};
use rpc_core::{Discovery, DiscoveryError};
use tokio::time;

use crate::{
    Names,
    cluster::{explain, within},
    entry::{self, Entry},
};

/// The pause after the first failure. It doubles with each further one, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// How far a client has come with following the servers.
#[derive(Default)]
pub(crate) struct Following {
    watch: Option<Watch>,
    /// The endpoints of each server, by its key.
    servers: BTreeMap<Vec<u8>, Vec<String>>,
    /// The pause before everything is listed anew.
    pause: Duration,
}

struct Watch {
    /// The stream ends with its client.
    _client: Client,
    stream: WatchStream,
    since: Instant,
}

impl Discovery for Names {
    fn name(&self) -> String {
        self.shown()
    }

    async fn next(&mut self) -> Result<Vec<String>, DiscoveryError> {
        loop {
            let Err(error) = self.follow().await else {
                let endpoints = self.following.servers.values().flatten().cloned();
                return Ok(endpoints.collect());
            };
            // Everything is listed anew after a failure. Nothing is lost meanwhile: the client keeps
            // what it knows.
            let watch = self.following.watch.take();
            let was_stable = watch.is_some_and(|watch| watch.since.elapsed() > MAX_PAUSE);
            let before = if was_stable { Duration::ZERO } else { self.following.pause };
            self.following.pause = (2 * before).clamp(FIRST_PAUSE, MAX_PAUSE);
            // The first failure is often the end of a stream, and another member answers at once.
            if !before.is_zero() {
                return Err(format!("etcd does not answer: {}", explain(&error)).into());
            }
        }
    }
}

impl Names {
    /// Waits until the servers are known or have changed.
    async fn follow(&mut self) -> Result<(), Error> {
        let Some(watch) = &mut self.following.watch else { return self.list().await };
        loop {
            let answer = watch.stream.message().await?;
            let answer = answer.ok_or_else(|| ended("the watch has ended"))?;
            if answer.canceled() {
                let reason = match answer.compact_revision() {
                    0 => answer.cancel_reason().to_owned(),
                    revision => format!("the changes up to {revision} were compacted"),
                };
                return Err(ended(&reason));
            }
            let mut changed = false;
            for event in answer.events() {
                let Some(kv) = event.kv() else { continue };
                changed = true;
                match event.event_type() {
                    EventType::Put => insert(&mut self.following.servers, kv),
                    EventType::Delete => drop(self.following.servers.remove(kv.key())),
                }
            }
            if changed {
                return Ok(());
            }
        }
    }

    /// Lists the servers, and begins to watch for what comes after that.
    async fn list(&mut self) -> Result<(), Error> {
        time::sleep(self.following.pause).await;
        let mut client = self.cluster.connect().await?;
        let prefix = GetOptions::new().with_prefix();
        let listed = within(client.get(self.prefix.as_str(), Some(prefix))).await?;
        let revision = listed.header().map_or(0, etcd_client::ResponseHeader::revision);
        let after = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
        let stream = within(client.watch(self.prefix.as_str(), Some(after))).await?;
        let mut servers = BTreeMap::new();
        for kv in listed.kvs() {
            insert(&mut servers, kv);
        }
        self.following.servers = servers;
        self.following.watch = Some(Watch { _client: client, stream, since: Instant::now() });
        Ok(())
    }
}

fn ended(reason: &str) -> Error {
    Error::WatchError(reason.to_owned())
}

/// Takes what is stored about a server. What cannot be read counts as a server without endpoints.
fn insert(servers: &mut BTreeMap<Vec<u8>, Vec<String>>, kv: &KeyValue) {
    let endpoints = match Entry::read(kv.value()) {
        Ok(entry) => entry.for_client(entry::host()),
        Err(reason) => {
            let key = kv.key_str().unwrap_or("a key that is no text");
            tracing::warn!(key, "what is stored about a server cannot be read: {reason}");
            Vec::new()
        }
    };
    servers.insert(kv.key().to_vec(), endpoints);
}
