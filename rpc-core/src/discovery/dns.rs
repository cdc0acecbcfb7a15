//! A name in the DNS, which is looked up again and again.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZero,
    str::FromStr,
    time::{Duration, Instant},
};

use futures_util::future::{join_all, try_join_all};
use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RData,
};
use tokio::time;

use super::{Discovery, DiscoveryError};

/// The default of the longest time between two lookups.
const REFRESH: Duration = Duration::from_secs(5);
/// The shortest time between two lookups, whatever the records say.
const SHORTEST: Duration = Duration::from_secs(1);
/// The time that a name server has for its answer, and the number of times that it is asked.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;

/// A name whose addresses are the hosts of servers, or whose SRV records name hosts and ports.
pub(crate) struct DnsDiscovery {
    name: String,
    /// The port of the servers. `None` if SRV records have it.
    port: Option<u16>,
    refresh: Duration,
    /// The server to ask instead of those of the system.
    nameserver: Option<SocketAddr>,
    resolvers: Option<Resolvers>,
    due: Instant,
    /// The number of lookups that have failed since the last one that has not.
    failures: u32,
}

impl DnsDiscovery {
    /// Parses what follows `dns://`: `name:port`, or the name of SRV records, and options.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (address, options) = text.split_once('?').unwrap_or((text, ""));
        let (name, port) = match address.rsplit_once(':') {
            Some((name, port)) => (name, Some(number::<NonZero<u16>>(port, "a port")?.get())),
            None => (address, None),
        };
        if name.parse::<IpAddr>().is_ok() || name.contains(['[', ']', ':']) {
            return Err(format!("`{name}` is an address and needs no lookup: write `tcp://`"));
        }
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || "/@#".contains(c)) {
            let reason = "write `dns://name:port` for the addresses of a name, or `dns://name` for \
                          its SRV records";
            return Err(reason.to_owned());
        }
        let mut parsed = Self {
            name: name.to_owned(),
            port,
            refresh: REFRESH,
            nameserver: None,
            resolvers: None,
            due: Instant::now(),
            failures: 0,
        };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=').unwrap_or((option, "")) {
                ("refresh", seconds) => {
                    let seconds = number::<NonZero<u32>>(seconds, "`refresh`")?;
                    parsed.refresh = Duration::from_secs(seconds.get().into());
                }
                ("nameserver", server) => {
                    let address = server
                        .parse()
                        .or_else(|_| server.parse().map(|host: IpAddr| SocketAddr::new(host, 53)));
                    parsed.nameserver = Some(address.map_err(|_| {
                        format!("`nameserver` is an address such as `10.0.0.1:53`, not `{server}`")
                    })?);
                }
                (option, _) => {
                    return Err(format!(
                        "there is no option `{option}`: use `refresh` (in seconds) or `nameserver`"
                    ));
                }
            }
        }
        Ok(parsed)
    }

    /// Makes the resolvers. They keep nothing in memory, so that each lookup is one.
    fn make_resolvers(&self) -> Result<Resolvers, NetError> {
        let ipv4 = self.make_resolver(LookupIpStrategy::Ipv4Only)?;
        Ok([ipv4, self.make_resolver(LookupIpStrategy::Ipv6Only)?])
    }

    fn make_resolver(&self, families: LookupIpStrategy) -> Result<TokioResolver, NetError> {
        let mut builder = match self.nameserver {
            None => Resolver::builder_tokio()?,
            Some(address) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
                let connections = connections.map(|mut connection| {
                    connection.port = address.port();
                    connection
                });
                let server = NameServerConfig::new(address.ip(), true, connections.to_vec());
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                Resolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.timeout = TIMEOUT;
        options.attempts = ATTEMPTS;
        options.ip_strategy = families;
        builder.build()
    }

    /// Returns the endpoints, and the time until which they are valid.
    async fn look_up(&mut self) -> Result<(Vec<String>, Instant), NetError> {
        let resolvers = match self.resolvers.take() {
            Some(resolvers) => resolvers,
            // The settings of the system are read again after an error.
            None => self.make_resolvers()?,
        };
        let found = match self.port {
            Some(port) => addresses(&resolvers, &self.name, port).await?,
            None => services(&resolvers, &self.name).await?,
        };
        self.resolvers = Some(resolvers);
        Ok(found)
    }

    fn explain(&self, error: &NetError) -> String {
        let records = if self.port.is_some() { "address" } else { "SRV record" };
        if error.is_no_records_found() {
            format!("the name `{}` has no {records}", self.name)
        } else {
            format!("the lookup of `{}` has failed: {error}", self.name)
        }
    }
}

impl Discovery for DnsDiscovery {
    fn name(&self) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("dns://{}{port}", self.name)
    }

    async fn next(&mut self) -> Result<Vec<String>, DiscoveryError> {
        time::sleep_until(self.due.into()).await;
        let found = self.look_up().await;
        let now = Instant::now();
        let pause = if let Ok((_, valid_until)) = &found {
            self.failures = 0;
            valid_until.saturating_duration_since(now)
        } else {
            self.failures += 1;
            SHORTEST * 2_u32.pow(self.failures.min(10))
        };
        self.due = now + pause.clamp(SHORTEST, self.refresh.max(SHORTEST));
        match found {
            Ok((endpoints, _)) => Ok(endpoints),
            Err(error) => Err(self.explain(&error).into()),
        }
    }
}

type Found = (Vec<String>, Instant);

/// A resolver for IPv4 and one for IPv6. A single one would take the addresses of one family for all
/// if the lookup of the other fails, and servers would be lost.
type Resolvers = [TokioResolver; 2];

/// Returns an endpoint for each address of a name.
async fn addresses(resolvers: &Resolvers, name: &str, port: u16) -> Result<Found, NetError> {
    let endpoint = |address| format!("tcp://{}", SocketAddr::new(address, port));
    let (mut endpoints, mut valid_until, mut nothing) = (Vec::new(), None, None);
    for found in join_all(resolvers.iter().map(|resolver| resolver.lookup_ip(name))).await {
        match found {
            Ok(found) => {
                endpoints.extend(found.iter().map(endpoint));
                valid_until = valid_until.into_iter().chain([found.valid_until()]).min();
            }
            Err(error) if error.is_no_records_found() => nothing = Some(error),
            Err(error) => return Err(error),
        }
    }
    match (valid_until, nothing) {
        (Some(until), _) => Ok((endpoints, until)),
        (None, Some(nothing)) => Err(nothing),
        (None, None) => Ok((endpoints, Instant::now())),
    }
}

/// Returns an endpoint for each address of the hosts that SRV records name. Of several priorities,
/// only the first counts. Weights are ignored, since clients balance by load.
/// <https://www.rfc-editor.org/rfc/rfc2782>
async fn services(resolvers: &Resolvers, name: &str) -> Result<Found, NetError> {
    let found = resolvers[0].srv_lookup(name).await?;
    let records = found.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(record) => Some(record),
        _ => None,
    });
    let first = records.clone().map(|record| record.priority).min();
    let records = records.filter(|record| Some(record.priority) == first);
    let targets = records.map(|record| async {
        match addresses(resolvers, &record.target.to_utf8(), record.port).await {
            // One host that has no address says nothing about the others.
            Err(error) if error.is_no_records_found() => Ok((Vec::new(), found.valid_until())),
            other => other,
        }
    });
    let hosts = try_join_all(targets).await?;
    let valid_until = hosts.iter().map(|(_, until)| *until).chain([found.valid_until()]).min();
    let endpoints = hosts.into_iter().flat_map(|(endpoints, _)| endpoints).collect();
    Ok((endpoints, valid_until.unwrap_or_else(Instant::now)))
}

fn number<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{what} is a positive number, not `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_says_what_to_write() {
        for (text, expected) in [
            ("", "`dns://name:port`"),
            (":1", "`dns://name:port`"),
            ("a b:1", "`dns://name:port`"),
            ("user@host:1", "`dns://name:port`"),
            ("name:0", "a port is a positive number, not `0`"),
            ("name:x", "not `x`"),
            ("10.0.0.1:5", "write `tcp://`"),
            ("[::1]:5", "write `tcp://`"),
            ("name:1?refresh=0", "`refresh` is a positive number"),
            ("name:1?nameserver=x", "`10.0.0.1:53`, not `x`"),
            ("name:1?ttl=5", "there is no option `ttl`"),
        ] {
            let error = DnsDiscovery::parse(text).err().unwrap();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let parsed = DnsDiscovery::parse("words.svc:5555?refresh=5&nameserver=::1").unwrap();
        assert_eq!((parsed.name(), parsed.refresh.as_secs()), ("dns://words.svc:5555".into(), 5));
        assert_eq!(parsed.nameserver, Some("[::1]:53".parse().unwrap()));
        assert_eq!(DnsDiscovery::parse("_rpc._tcp.words").unwrap().port, None);
    }
}
