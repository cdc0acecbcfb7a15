//! The registration of a server: a key under a lease, which is renewed while the server serves.

use std::{net::SocketAddr, pin::pin, time::Duration};

use etcd_client::{
    Client, Compare, CompareOp, Error, LeaseKeepAliveStream, LeaseKeeper, PutOptions, Txn, TxnOp,
    TxnOpResponse,
};
use rpc_core::{Registration, Withdrawal};
use tokio::time;

use crate::{
    Names,
    cluster::{explain, within},
    entry::{self, Entry},
};

/// The number of times that a lease is renewed before it would end.
const RENEWALS: u32 = 3;
/// The pause before another attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// The key and the value of a server, and the lease under which they were stored last.
struct Registered {
    key: String,
    value: String,
    lease: Option<i64>,
    /// The connection that was used last.
    client: Option<Client>,
}

/// The reason why a server is not registered any more, or not yet.
enum Trouble {
    Etcd(Error),
    /// The lease has ended although the server serves.
    LeaseEnded,
    /// Another server has the key.
    Taken,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Etcd(error)
    }
}

impl Registration for Names {
    async fn run(mut self, endpoints: Vec<String>, withdrawal: Withdrawal) {
        let mut withdrawal = pin!(withdrawal);
        let instance = self.instance.take().unwrap_or_else(random);
        let key = format!("{}{instance}", self.prefix);
        let mut registered = Registered { key, value: String::new(), lease: None, client: None };
        let mut told = String::new();
        // The address of this machine may be unknown until the cluster can be reached.
        while registered.value.is_empty() {
            match self.entry(&endpoints).await {
                Ok(entry) => registered.value = serde_json::to_string(&entry).unwrap_or_default(),
                Err(reason) => {
                    if told != reason {
                        tracing::warn!(endpoint = %self.shown(), "cannot register: {reason}");
                        told = reason;
                    }
                    tokio::select! {
                        () = &mut withdrawal => return,
                        () = time::sleep(PAUSE) => {}
                    }
                }
            }
        }
        loop {
            let trouble = tokio::select! {
                () = &mut withdrawal => break,
                trouble = self.keep(&mut registered, &mut told) => trouble,
            };
            let text = match &trouble {
                Trouble::Etcd(error) => {
                    format!("etcd does not answer, and the server serves on: {}", explain(error))
                }
                Trouble::LeaseEnded => {
                    registered.lease = None;
                    "the lease has ended while the server serves: it registers again".to_owned()
                }
                Trouble::Taken => {
                    "another server is registered under this instance: it must go first".to_owned()
                }
            };
            if told != text {
                tracing::warn!(key = %registered.key, "{text}");
                told = text;
            }
            if matches!(trouble, Trouble::LeaseEnded) {
                continue;
            }
            tokio::select! {
                () = &mut withdrawal => break,
                () = time::sleep(PAUSE) => {}
            }
        }
        if let Err(error) = self.withdraw(&mut registered).await {
            // The lease ends by itself.
            tracing::warn!(key = %registered.key, "cannot withdraw: {}", explain(&error));
        }
    }
}

impl Names {
    /// Returns what is to be stored.
    async fn entry(&self, endpoints: &[String]) -> Result<Entry, String> {
        let mut advertised = self.advertised.clone();
        if advertised.is_empty() {
            for endpoint in endpoints {
                let address = endpoint.strip_prefix("tcp://").and_then(|text| text.parse().ok());
                match address.filter(|address: &SocketAddr| address.ip().is_unspecified()) {
                    Some(mut address) => {
                        let local = self.cluster.local_address().await;
                        address.set_ip(local.map_err(|cause| cause.to_string())?);
                        advertised.push(format!("tcp://{address}"));
                    }
                    None => advertised.push(endpoint.clone()),
                }
            }
        }
        for endpoint in advertised.iter().filter(|endpoint| entry::is_loopback(endpoint)) {
            tracing::warn!(
                %endpoint,
                "only clients on this machine can reach it: bind `tcp://*:port`, or say with \
                 `Names::advertise` where the server is reached"
            );
        }
        Ok(Entry { endpoints: advertised, host: entry::host().to_owned() })
    }

    /// Registers the server, and keeps it registered until there is trouble.
    async fn keep(&mut self, registered: &mut Registered, told: &mut String) -> Trouble {
        match self.try_keep(registered, told).await {
            Ok(never) => match never {},
            Err(trouble) => trouble,
        }
    }

    async fn try_keep(
        &mut self,
        registered: &mut Registered,
        told: &mut String,
    ) -> Result<std::convert::Infallible, Trouble> {
        let mut client = self.cluster.connect().await?;
        registered.client = Some(client.clone());
        let lease = if let Some(lease) = registered.lease {
            lease
        } else {
            within(client.lease_grant(self.ttl_seconds, None)).await?.id()
        };
        registered.lease = Some(lease);
        let (mut keeper, mut answers) = match within(client.lease_keep_alive(lease)).await {
            // The lease is not there any more.
            Err(Error::LeaseKeepAliveError(_)) => return Err(Trouble::LeaseEnded),
            streams => streams?,
        };
        let seconds = u64::try_from(self.ttl_seconds).unwrap_or_default();
        let interval = Duration::from_secs(seconds) / RENEWALS;
        loop {
            renew(&mut keeper, &mut answers).await?;
            if put_if_absent(&mut client, registered, lease).await? {
                tracing::info!(key = %registered.key, value = %registered.value, "registered");
                told.clear();
            }
            time::sleep(interval).await;
        }
    }

    /// Ends the lease, and with it the registration: by the last connection, or else by another one.
    async fn withdraw(&mut self, registered: &mut Registered) -> Result<(), Error> {
        let Some(lease) = registered.lease else { return Ok(()) };
        if let Some(client) = &mut registered.client
            && within(client.lease_revoke(lease)).await.is_ok()
        {
            return Ok(());
        }
        let mut client = self.cluster.connect().await?;
        within(client.lease_revoke(lease)).await.map(drop)
    }
}

async fn renew(
    keeper: &mut LeaseKeeper,
    answers: &mut LeaseKeepAliveStream,
) -> Result<(), Trouble> {
    within(keeper.keep_alive()).await?;
    match within(answers.message()).await? {
        // The answer for a lease that has ended is no error.
        Some(answer) if answer.ttl() <= 0 => Err(Trouble::LeaseEnded),
        Some(_) => Ok(()),
        None => Err(Error::LeaseKeepAliveError("the stream has ended".to_owned()).into()),
    }
}

/// Stores the entry unless it is there already, because somebody has deleted it. Returns true if it
/// was not there.
async fn put_if_absent(
    client: &mut Client,
    registered: &Registered,
    lease: i64,
) -> Result<bool, Trouble> {
    let Registered { key, value, .. } = registered;
    let options = PutOptions::new().with_lease(lease);
    let txn = Txn::new()
        .when([Compare::create_revision(key.as_str(), CompareOp::Equal, 0)])
        .and_then([TxnOp::put(key.as_str(), value.as_str(), Some(options))])
        .or_else([TxnOp::get(key.as_str(), None)]);
    let done = within(client.txn(txn)).await?;
    if done.succeeded() {
        return Ok(true);
    }
    let is_ours = done.op_responses().into_iter().any(|response| match response {
        TxnOpResponse::Get(found) => found.kvs().iter().any(|kv| kv.lease() == lease),
        _ => false,
    });
    if is_ours { Ok(false) } else { Err(Trouble::Taken) }
}

/// Returns a name that no other server has.
fn random() -> String {
    use std::hash::{BuildHasher, RandomState};
    let part = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", part(), part())
}
