//! Parses the text of an endpoint, and formats it. No I/O: the transport resolves host names.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

#[cfg(feature = "amqp")]
pub(crate) mod amqp;
#[cfg(test)]
mod tests;
pub(crate) mod texts;

/// An address that a server listens on, or a client connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Tcp {
        host: Host,
        port: u16,
    },
    Ipc(IpcAddress),
    Inproc(String),
    #[cfg(feature = "amqp")]
    Amqp(amqp::AmqpAddress),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// Every interface of this machine, to listen on. It is written as `*`.
    Any,
    Address(IpAddr),
    /// A link-local address, which is valid on the network of one interface.
    LinkLocal {
        address: Ipv6Addr,
        /// The name or the number of the interface.
        zone: String,
    },
    Name(String),
}

/// The address of a Unix domain socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IpcAddress {
    Path(PathBuf),
    /// A name in the abstract namespace of Linux, which has no file. It is written as `@name`.
    Abstract(String),
}

/// The longest path of a Unix domain socket, in bytes. The operating system has a field of fixed
/// size for it, which also takes a zero at the end.
const MAX_IPC: usize =
    if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };

/// The forms of endpoints, for errors about texts that look like none of them.
const FORMS: &str = "an endpoint is `tcp://host:port`, `ipc:///path`, `inproc://name` or \
                     `amqp://host`; a client also connects to the endpoints that `dns://name:port` \
                     or `file:///path` names";

impl Endpoint {
    /// Parses an endpoint to listen on. The host may be `*` (every interface), and the port `0` or
    /// `*` (any free port). An error says what to write instead.
    pub(crate) fn to_bind(text: &str) -> Result<Self, String> {
        Self::parse(text, true)
    }

    /// Parses an endpoint to connect to, whose host and port must not be wildcards. An error says
    /// what to write instead.
    pub(crate) fn to_connect(text: &str) -> Result<Self, String> {
        Self::parse(text, false)
    }

    fn parse(text: &str, bind: bool) -> Result<Self, String> {
        let Some((transport, address)) = text.split_once("://") else {
            return Err(without_transport(text));
        };
        match transport {
            "tcp" => tcp(address, bind),
            "ipc" => ipc(address).map(Self::Ipc),
            "inproc" if address.is_empty() => {
                Err("the name is missing: `inproc://name`".to_owned())
            }
            "inproc" => Ok(Self::Inproc(address.to_owned())),
            #[cfg(feature = "amqp")]
            "amqp" | "amqps" => amqp::parse(text).map(Self::Amqp),
            #[cfg(not(feature = "amqp"))]
            "amqp" | "amqps" => {
                Err("this program is built without brokers: add the feature `amqp` of rpc-core"
                    .to_owned())
            }
            "file" | "dns" => Err(format!(
                "`{transport}` names endpoints, and is none itself: only a client connects to it"
            )),
            "etcd" => Err("the package `rpc-etcd` has names in etcd: use its `Names`".to_owned()),
            other => match other.trim().to_ascii_lowercase().as_str() {
                known @ ("tcp" | "ipc" | "inproc" | "amqp" | "amqps" | "dns" | "file" | "etcd") => {
                    Err(format!("write the transport as `{known}`, not as `{other}`"))
                }
                _ => Err(format!("there is no transport `{other}`: {FORMS}")),
            },
        }
    }

    /// Returns true if the address itself says that it is one of this machine.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp { host: Host::Address(address), .. } => address.is_loopback(),
            Self::Tcp { host: Host::Name(name), .. } => name == "localhost",
            Self::Ipc(_) | Self::Inproc(_) => true,
            Self::Tcp { .. } => false,
            #[cfg(feature = "amqp")]
            Self::Amqp(_) => false,
        }
    }

    /// Returns the endpoint that reaches a server on this machine that listens here, with the
    /// `port` that it got.
    pub(crate) fn with_port(&self, port: u16) -> Self {
        match self {
            // Every machine has this address, even if it has no IPv6.
            Self::Tcp { host: Host::Any, .. } => {
                Self::Tcp { host: Host::Address(Ipv4Addr::UNSPECIFIED.into()), port }
            }
            Self::Tcp { host, .. } => Self::Tcp { host: host.clone(), port },
            other => other.clone(),
        }
    }
}

/// Returns the text of an endpoint without the user and the password that it may have. A malformed
/// one has them before an `@`, wherever that stands.
pub(crate) fn redacted(text: &str) -> String {
    let (scheme, rest) = match text.find("://") {
        Some(end) => text.split_at(end + "://".len()),
        None => ("", text),
    };
    match rest.rsplit_once('@') {
        Some((_, host)) if !["tcp://", "ipc://", "inproc://"].contains(&scheme) => {
            format!("{scheme}***@{host}")
        }
        _ => text.to_owned(),
    }
}

fn without_transport(text: &str) -> String {
    if text.starts_with(['/', '.']) {
        format!("the transport is missing: `ipc://{text}`")
    } else if let Some((host, port)) = text.rsplit_once(':')
        && !host.is_empty()
        && !["tcp:", "ipc:", "inproc:", "dns:", "file:", "etcd:"]
            .iter()
            .any(|start| text.starts_with(start))
        && !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        format!("the transport is missing: `tcp://{text}`")
    } else {
        FORMS.to_owned()
    }
}

fn ipc(address: &str) -> Result<IpcAddress, String> {
    if address.is_empty() {
        return Err("the path is missing: `ipc:///path/to/socket`".to_owned());
    }
    if address == "*" {
        let reason = "a wildcard path is not supported: name the file, as in `ipc:///run/app.sock`";
        return Err(reason.to_owned());
    }
    if address.contains(char::is_control) {
        return Err("it contains a control character, such as a line break: remove it".to_owned());
    }
    if address.len() > MAX_IPC {
        let length = address.len();
        return Err(format!(
            "it has {length} bytes after `ipc://`, and the operating system allows {MAX_IPC}: use \
             a shorter path"
        ));
    }
    if let Some(name) = address.strip_prefix('@') {
        return match name {
            "" => Err("the name is missing: `ipc://@name`".to_owned()),
            _ if !cfg!(target_os = "linux") => Err(format!(
                "only Linux has sockets without a file: write `ipc://./{address}` for a file of \
                 this name"
            )),
            name => Ok(IpcAddress::Abstract(name.to_owned())),
        };
    }
    let file = address.rsplit('/').next().unwrap_or_default();
    if matches!(file, "" | "." | "..") {
        let folder = address.trim_end_matches('/');
        return Err(format!("it names a folder: name a file, as in `ipc://{folder}/app.sock`"));
    }
    Ok(IpcAddress::Path(PathBuf::from(address)))
}

fn tcp(address: &str, bind: bool) -> Result<Endpoint, String> {
    if address.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("it contains white space or a control character: remove it".to_owned());
    }
    if let Some(end) = address.find(['/', '?', '#']).filter(|end| *end > 0) {
        return Err(format!("nothing follows the port: remove `{}`", &address[end..]));
    }
    for (sign, part) in [('@', "a user name"), (';', "a source address")] {
        if let Some((before, _)) = address.split_once(sign) {
            return Err(format!("{part} is not supported: remove `{before}{sign}`"));
        }
    }
    let (host, port) = split_port(address)?;
    let port = match (port, bind) {
        ("", _) => return Err(format!("the port is missing: `tcp://{host}:5555`")),
        ("*", _) => 0,
        (port, _) => parse_port(port)?,
    };
    if port == 0 && !bind {
        return Err("a client needs the port that the server listens on".to_owned());
    }
    let host = match host {
        "" if bind => {
            return Err(format!("the host is missing: `tcp://*:{port}` is every interface"));
        }
        "" => return Err(format!("the host is missing: `tcp://localhost:{port}`")),
        "*" if bind => Host::Any,
        "*" => return Err("a client needs the server's host, not `*`".to_owned()),
        host => parse_host(host)?,
    };
    Ok(Endpoint::Tcp { host, port })
}

/// Splits the address into the host, which may be in brackets, and the port.
fn split_port(address: &str) -> Result<(&str, &str), String> {
    let end = match address.strip_prefix('[') {
        Some(_) => match address.find(']') {
            Some(bracket) => bracket + 1,
            None => return Err("the `]` is missing: `tcp://[::1]:5555`".to_owned()),
        },
        None => address.rfind(':').unwrap_or(address.len()),
    };
    let (host, port) = address.split_at(end);
    if host.contains(':') && !host.starts_with('[') {
        let example = "`tcp://[::1]:5555`";
        return Err(format!("write an IPv6 address in brackets, and the port behind: {example}"));
    }
    match (host, port.strip_prefix(':')) {
        ("", None) => Err("the host and the port are missing: `tcp://host:port`".to_owned()),
        (_, Some(port)) => Ok((host, port)),
        (_, None) if port.is_empty() => Ok((host, port)),
        (_, None) => Err(format!("write `:` between `{host}` and the port: `tcp://{host}:5555`")),
    }
}

fn parse_port(port: &str) -> Result<u16, String> {
    // A number with a sign is no port, although `parse` takes it.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse().ok().filter(|_| digits);
    number.ok_or_else(|| format!("`{port}` is no port from 0 to 65535"))
}

fn parse_host(host: &str) -> Result<Host, String> {
    if let Some(inner) = host.strip_prefix('[') {
        return parse_ipv6(inner.trim_end_matches(']'));
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Address(address.into()));
    }
    let parts = host.split('.');
    if parts.clone().count() == 4 && parts.clone().all(|part| part.parse::<u64>().is_ok()) {
        return Err(format!(
            "`{host}` is no IPv4 address: it has four numbers from 0 to 255, without leading zeros"
        ));
    }
    if host.contains(['/', '?', '#', '[', ']']) {
        return Err(format!("`{host}` is no host name"));
    }
    Ok(Host::Name(host.to_owned()))
}

/// Parses an IPv6 address, which has a zone if it is link-local.
fn parse_ipv6(text: &str) -> Result<Host, String> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<Ipv6Addr>() else {
        return Err(format!(
            "`{address}` is no IPv6 address, and only these are in brackets: `tcp://[::1]:5555`"
        ));
    };
    match (address.is_unicast_link_local(), zone) {
        (false, None) => Ok(Host::Address(address.into())),
        (false, Some(zone)) => {
            Err(format!("only a link-local address (fe80::) has a zone: remove `%{zone}`"))
        }
        (true, None | Some("")) => Err(format!(
            "a link-local address needs the interface as its zone: `tcp://[{address}%eth0]:5555`"
        )),
        (true, Some(zone)) => Ok(Host::LinkLocal { address, zone: zone.to_owned() }),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Ipc(address) => write!(f, "ipc://{address}"),
            Self::Inproc(name) => write!(f, "inproc://{name}"),
            #[cfg(feature = "amqp")]
            Self::Amqp(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::LinkLocal { address, zone } => write!(f, "[{address}%{zone}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for IpcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Abstract(name) => write!(f, "@{name}"),
        }
    }
}
