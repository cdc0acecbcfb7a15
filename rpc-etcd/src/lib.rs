//! Names for `rpc-core` in etcd (3.4 or later): servers register while they serve, and clients find
//! them.
//!
//! ```no_run
//! use rpc_core::{Client, Server};
//! use rpc_etcd::Names;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // In each server:
//! let names = Names::parse("etcd://127.0.0.1:2379/words")?;
//! let server = Server::bind("tcp://*:0").await?.register(names).spawn()?;
//!
//! // In a client:
//! let names = Names::parse("etcd://127.0.0.1:2379/words")?;
//! let client = Client::builder().connect_via(names).await?;
//! # server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What is stored
//! Each server has the key `/rpc/<service>/<instance>`, under a lease. Its value is JSON:
//! `{"endpoints": ["tcp://10.0.0.7:5555"], "host": "…"}`. The host is the id of the running kernel
//! and of the file systems that the server sees, by which clients recognize a server whose sockets
//! they see as well.

mod address;
mod cluster;
mod discovery;
mod entry;
mod registration;

pub use address::InvalidAddress;

use std::{fmt, time::Duration};

use cluster::Cluster;

/// The shortest time to live of a registration, in seconds.
const MIN_TTL: i64 = 2;

/// The names of a service in etcd. It is both: the [`Registration`](rpc_core::Registration) of a
/// server, and the [`Discovery`](rpc_core::Discovery) of a client.
///
/// # Servers
/// A server is registered under a lease, which it renews while it serves, and withdrawn when it
/// drains. One that dies is out when its lease ends, after 10 s; clients notice the lost connection
/// before that. While etcd is away, a server serves on and tries again. If its lease has ended
/// meanwhile, it registers anew, and logs that at `WARN`.
///
/// # Clients
/// A client follows all changes. While etcd is away, it keeps the servers that it knows. Of a server
/// on its own machine, and in its own container, that also listens on `ipc://`, it takes that
/// endpoint; of any other server, those at `tcp://`. [Affinity keys](rpc_core::Call::affinity_key)
/// therefore agree only among clients that reach a server in the same way. Entries that it cannot
/// read are left out, and logged at `WARN`.
pub struct Names {
    cluster: Cluster,
    /// The beginning of the keys of all servers of the service.
    prefix: String,
    service: String,
    /// The time to live of a registration, as etcd takes it.
    ttl_seconds: i64,
    instance: Option<String>,
    advertised: Vec<String>,
    following: discovery::Following,
}

impl Names {
    /// Parses `etcd://host:port/service`. There may be a user and a password,
    /// `etcd://user:password@host:port/service`, and several members of the cluster,
    /// `etcd://a:2379,b:2379,c:2379/service`. The default port is 2379. Special characters are
    /// written as `%` and two digits.
    ///
    /// Nothing is connected before the names are used.
    ///
    /// # Errors
    /// Returns [`InvalidAddress`], which says what to write instead.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let address::Address { members, login, service } = address::parse(text)?;
        Ok(Self {
            prefix: format!("/rpc/{service}/"),
            cluster: Cluster::new(members, login),
            service,
            ttl_seconds: 10,
            instance: None,
            advertised: Vec::new(),
            following: discovery::Following::default(),
        })
    }

    /// Sets the time for which the registration of a server that has died stays. It is cut to
    /// whole seconds, and at least 2 s. The default is 10 s.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl_seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX).max(MIN_TTL);
        self
    }

    /// Sets the name under which a server is registered, instead of a random one.
    ///
    /// If another server is registered under this name, this one serves without being found, logs
    /// it at `WARN`, and takes the name once the other one has gone.
    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    /// Sets the endpoints at which clients reach the server, instead of those on which it listens.
    ///
    /// By default, a server that listens on every interface is registered with the address from
    /// which this machine reaches etcd. If etcd runs on this machine, that is a loopback address, and
    /// only clients on this machine reach the server. Behind an address translation, or in a
    /// container whose ports are mapped, it is of no use either.
    #[must_use]
    pub fn advertise(mut self, endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.advertised = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// Returns `etcd://…/service` without a password, for logs.
    fn shown(&self) -> String {
        format!("etcd://{}/{}", self.cluster.members().join(","), self.service)
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Names").field(&self.shown()).finish()
    }
}
