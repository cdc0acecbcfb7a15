//! Parses the text of an endpoint, and formats it. No I/O: the transport resolves host names.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

/// An address that a server listens on, or a client connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Tcp { host: Host, port: u16 },
    Ipc(PathBuf),
    Inproc(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    Address(IpAddr),
    Name(String),
}

impl Endpoint {
    /// Parses an endpoint to listen on. The host may be `*` (every IPv4 interface), and the port
    /// `0` or `*` (any free port). An error says what to write instead.
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
            return Err(
                "an endpoint is `tcp://host:port`, `ipc:///path` or `inproc://name`".to_owned()
            );
        };
        match transport {
            "tcp" => tcp(address, bind),
            "ipc" if address.is_empty() => {
                Err("the path is missing: `ipc:///path/to/socket`".to_owned())
            }
            "ipc" if address == "*" => {
                Err("a wildcard path is not supported: name the file, as in `ipc:///run/app.sock`"
                    .to_owned())
            }
            "ipc" => Ok(Self::Ipc(PathBuf::from(address))),
            "inproc" if address.is_empty() => {
                Err("the name is missing: `inproc://name`".to_owned())
            }
            "inproc" => Ok(Self::Inproc(address.to_owned())),
            other => Err(format!("there is no transport `{other}`: use `tcp`, `ipc` or `inproc`")),
        }
    }
}

fn tcp(address: &str, bind: bool) -> Result<Endpoint, String> {
    let Some((host, port)) = address.rsplit_once(':') else {
        return Err("the port is missing: `tcp://host:port`".to_owned());
    };
    let port = match (port, bind) {
        ("*", true) => 0,
        ("*" | "0", false) => {
            return Err("a client needs the port that the server listens on".to_owned());
        }
        (port, _) => port.parse().map_err(|_| format!("`{port}` is no port from 0 to 65535"))?,
    };
    let host = match host {
        "" => return Err("the host is missing: `tcp://host:port`".to_owned()),
        "*" if bind => Host::Address(Ipv4Addr::UNSPECIFIED.into()),
        "*" => return Err("a client needs the server's host, not `*`".to_owned()),
        host => parse_host(host)?,
    };
    Ok(Endpoint::Tcp { host, port })
}

fn parse_host(host: &str) -> Result<Host, String> {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        return match address {
            Some(address) => Ok(Host::Address(address.into())),
            None => Err(format!("`{host}` is no IPv6 address: write `tcp://[::1]:5555`")),
        };
    }
    if host.contains(':') {
        return Err("write an IPv6 address in brackets, as in `tcp://[::1]:5555`".to_owned());
    }
    match host.parse::<Ipv4Addr>() {
        Ok(address) => Ok(Host::Address(address.into())),
        Err(_) if host.chars().any(|c| c.is_whitespace() || c == '/') => {
            Err(format!("`{host}` is no host name"))
        }
        Err(_) => Ok(Host::Name(host.to_owned())),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host: Host::Address(IpAddr::V6(host)), port } => {
                write!(f, "tcp://[{host}]:{port}")
            }
            Self::Tcp { host: Host::Address(IpAddr::V4(host)), port } => {
                write!(f, "tcp://{host}:{port}")
            }
            Self::Tcp { host: Host::Name(host), port } => write!(f, "tcp://{host}:{port}"),
            Self::Ipc(path) => write!(f, "ipc://{}", path.display()),
            Self::Inproc(name) => write!(f, "inproc://{name}"),
        }
    }
}

/// One or several endpoints, as [`Server::bind`](crate::Server::bind) and
/// [`Client::connect`](crate::Client::connect) take them: a string, or an array, a slice or a `Vec`
/// of strings.
///
/// - `tcp://host:port` is carried by TCP. The host is a name, an IPv4 address, or an IPv6 address
///   in brackets. To bind, the host `*` stands for every IPv4 interface, and the port `0` or `*`
///   for any free port.
/// - `ipc:///path/to/socket` is carried by a Unix domain socket.
/// - `inproc://name` is carried by memory, between clients and servers of one process.
///
/// # Errors
/// `bind` fails with [`ServeError::InvalidEndpoint`](crate::ServeError::InvalidEndpoint) for any
/// other text, and `connect` with
/// [`ErrorKind::InvalidEndpoint`](crate::ErrorKind::InvalidEndpoint). Either error says what to
/// write instead.
pub trait Endpoints: sealed::Sealed {
    #[doc(hidden)]
    fn into_texts(self) -> Vec<String>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &str {}
    impl Sealed for &String {}
    impl Sealed for String {}
    impl<T: AsRef<str>, const N: usize> Sealed for [T; N] {}
    impl<T: AsRef<str>, const N: usize> Sealed for &[T; N] {}
    impl<T: AsRef<str>> Sealed for &[T] {}
    impl<T: AsRef<str>> Sealed for &Vec<T> {}
    impl<T: AsRef<str>> Sealed for Vec<T> {}
}

impl Endpoints for &str {
    fn into_texts(self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl Endpoints for &String {
    fn into_texts(self) -> Vec<String> {
        vec![self.clone()]
    }
}

impl Endpoints for String {
    fn into_texts(self) -> Vec<String> {
        vec![self]
    }
}

impl<T: AsRef<str>, const N: usize> Endpoints for [T; N] {
    fn into_texts(self) -> Vec<String> {
        self.as_slice().into_texts()
    }
}

impl<T: AsRef<str>, const N: usize> Endpoints for &[T; N] {
    fn into_texts(self) -> Vec<String> {
        self.as_slice().into_texts()
    }
}

impl<T: AsRef<str>> Endpoints for &[T] {
    fn into_texts(self) -> Vec<String> {
        self.iter().map(|text| text.as_ref().to_owned()).collect()
    }
}

impl<T: AsRef<str>> Endpoints for &Vec<T> {
    fn into_texts(self) -> Vec<String> {
        self.as_slice().into_texts()
    }
}

impl<T: AsRef<str>> Endpoints for Vec<T> {
    fn into_texts(self) -> Vec<String> {
        self.as_slice().into_texts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_text_round_trips() {
        for text in [
            "tcp://127.0.0.1:5555",
            "tcp://[::1]:1",
            "tcp://a.example:80",
            "ipc:///tmp/x",
            "inproc://x",
        ] {
            assert_eq!(Endpoint::to_connect(text).unwrap().to_string(), text);
            assert_eq!(Endpoint::to_bind(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn wildcards_are_for_binding_only() {
        assert_eq!(Endpoint::to_bind("tcp://*:*").unwrap().to_string(), "tcp://0.0.0.0:0");
        assert_eq!(Endpoint::to_bind("tcp://[::]:0").unwrap().to_string(), "tcp://[::]:0");
        for text in ["tcp://*:5555", "tcp://127.0.0.1:0", "tcp://127.0.0.1:*"] {
            Endpoint::to_connect(text).unwrap_err();
        }
    }

    #[test]
    fn error_shows_the_expected_form() {
        let cases = [
            ("127.0.0.1:5555", "tcp://host:port"),
            ("http://x:1", "no transport `http`"),
            ("tcp://localhost", "port is missing"),
            ("tcp://:5555", "host is missing"),
            ("tcp://localhost:99999", "no port"),
            ("tcp://::1:5555", "in brackets"),
            ("tcp://[::g]:5555", "no IPv6 address"),
            ("tcp://a b:5555", "no host name"),
            ("ipc://", "path is missing"),
            ("ipc://*", "wildcard path"),
            ("inproc://", "name is missing"),
        ];
        for (text, expected) in cases {
            let error = Endpoint::to_bind(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
