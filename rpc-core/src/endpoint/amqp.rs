//! Parses the address of a queue at a RabbitMQ broker.

use std::{fmt, path::PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::{Host, Url};

/// The queue of a service at a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AmqpAddress {
    /// True for `amqps`.
    pub(crate) tls: bool,
    pub(crate) user: String,
    pub(crate) password: Secret,
    /// A name, or an IP address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) vhost: String,
    pub(crate) queue: String,
    /// The number of requests that a server takes at a time.
    pub(crate) prefetch: u16,
    /// The largest number of requests that may wait in the queue.
    pub(crate) max_length: u32,
    /// The number of times that a request is delivered before it is set aside.
    pub(crate) delivery_limit: u32,
    /// The largest number of small requests that a client puts into one message.
    pub(crate) pack: u16,
    /// The interval of heartbeats in seconds. Either side ends a connection on which it has heard
    /// nothing for two of them.
    pub(crate) heartbeat: u16,
    /// The file with the certificates in PEM that sign that of the broker, in addition to those of
    /// the system.
    pub(crate) ca: Option<PathBuf>,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

const FORM: &str = "it has the form `amqp://user:password@host:5672/vhost?queue=name`, with each \
                    special character in a part as `%` and two digits";

/// Parses an address such as `amqp://user:password@host:5672/vhost?queue=name`. Every part but the
/// host has a default.
pub(crate) fn parse(text: &str) -> Result<AmqpAddress, String> {
    // The parser would leave some of them out.
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("it contains white space or a control character: write it as `%` and two \
                    digits, such as `%20`"
            .to_owned());
    }
    let url = Url::parse(text).map_err(|error| format!("{error}: {FORM}"))?;
    let tls = url.scheme() == "amqps";
    if tls && !cfg!(feature = "amqps") {
        return Err(
            "this program is built without TLS: add the feature `amqps` of rpc-core".to_owned()
        );
    }
    let host = match url.host() {
        Some(Host::Domain(name)) if !name.is_empty() => decoded(name)?,
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        _ => return Err(format!("the host is missing: {FORM}")),
    };
    if url.fragment().is_some() {
        return Err("nothing follows the query: remove `#` and the text behind it".to_owned());
    }
    let or_guest = |text: &str| match text {
        "" => Ok("guest".to_owned()),
        text => decoded(text),
    };
    let vhost = match url.path() {
        "" | "/" => "/".to_owned(),
        path => match path.strip_prefix('/') {
            Some(vhost) if vhost.contains('/') => {
                return Err("write a `/` in the name of the vhost as `%2f`".to_owned());
            }
            vhost => decoded(vhost.unwrap_or(path))?,
        },
    };
    let mut address = AmqpAddress {
        tls,
        user: or_guest(url.username())?,
        password: Secret(or_guest(url.password().unwrap_or_default())?),
        host,
        port: url.port().unwrap_or(if tls { 5671 } else { 5672 }),
        vhost,
        queue: "rpc".to_owned(),
        prefetch: 64,
        max_length: 100_000,
        delivery_limit: 10,
        pack: 1,
        heartbeat: 10,
        ca: None,
    };
    let mut seen = Vec::new();
    // A `+` stands for itself here, as in other clients of AMQP.
    for option in url.query().unwrap_or_default().split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        if seen.contains(&name) {
            return Err(format!("the option `{name}` is there twice"));
        }
        seen.push(name);
        set(&mut address, name, &decoded(value)?)?;
    }
    Ok(address)
}

fn set(address: &mut AmqpAddress, name: &str, value: &str) -> Result<(), String> {
    fn number<T: TryFrom<u32>>(name: &str, value: &str, most: u32) -> Result<T, String> {
        let number = value.parse().ok().filter(|number| (1..=most).contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("`{name}` is a number from 1 to {most}, not `{value}`"))
    }
    match name {
        "queue" if value.is_empty() || value.len() > MAX_QUEUE || value.starts_with("amq.") => {
            return Err(format!(
                "the name of a queue has 1 to {MAX_QUEUE} bytes, and does not begin with `amq.`"
            ));
        }
        "queue" => value.clone_into(&mut address.queue),
        "prefetch" => address.prefetch = number(name, value, u16::MAX.into())?,
        "max_length" => address.max_length = number(name, value, u32::MAX)?,
        "delivery_limit" => address.delivery_limit = number(name, value, u32::MAX)?,
        // With the default of `prefetch`, it is as many as a server has in flight at most.
        "pack" => address.pack = number(name, value, 256)?,
        "heartbeat" => address.heartbeat = number(name, value, u16::MAX.into())?,
        "cacertfile" if address.tls => address.ca = Some(value.into()),
        "cacertfile" => return Err("only `amqps://` has certificates".to_owned()),
        _ => {
            return Err(format!(
                "there is no option `{name}`: use `queue`, `prefetch`, `max_length`, \
                 `delivery_limit`, `pack`, `heartbeat` or `cacertfile`"
            ));
        }
    }
    Ok(())
}

/// The longest name of a queue, in bytes. AMQP allows 255, and the name of the dead-letter queue is
/// longer.
const MAX_QUEUE: usize = 250;

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| "it contains bytes that are no UTF-8".to_owned())
}

/// The characters that are encoded in the names of vhosts and queues.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

impl fmt::Display for AmqpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, user, host, port, vhost, queue, .. } = self;
        let scheme = if *tls { "amqps" } else { "amqp" };
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        let encode = |text| utf8_percent_encode(text, ENCODED);
        let (vhost, queue) = (encode(vhost), encode(queue));
        write!(f, "{scheme}://{user}@{open}{host}{close}:{port}/{vhost}?queue={queue}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_a_default() {
        let address = parse("amqp://localhost").unwrap();
        assert_eq!(address.to_string(), "amqp://guest@localhost:5672/%2F?queue=rpc");
        assert_eq!((&*address.password.0, &*address.vhost), ("guest", "/"));
        let all = "amqp://me:p%40ss@[::1]:1234/my%2fhost?queue=words&prefetch=7&pack=64";
        let address = parse(all).unwrap();
        assert_eq!(address.to_string(), "amqp://me@[::1]:1234/my%2Fhost?queue=words");
        assert_eq!((&*address.password.0, &*address.vhost), ("p@ss", "my/host"));
        assert_eq!((address.prefetch, address.pack, address.host.as_str()), (7, 64, "::1"));
        for vhost in ["amqp://h/", "amqp://h/%2f", "amqp://h/%2F"] {
            assert_eq!(parse(vhost).unwrap().vhost, "/");
        }
        assert_eq!(parse("amqp://h?queue=a+b=c").unwrap().queue, "a+b=c");
    }

    #[test]
    fn shown_address_leads_to_the_same_queue() {
        for name in ["a&b", "50% off", "a/b?c#d", "über", "words.v1_x-y", "a+b", "a=b", "\t"] {
            let text = format!("amqp://h?queue={}", utf8_percent_encode(name, NON_ALPHANUMERIC));
            let address = parse(&text).unwrap();
            assert_eq!(address.queue, name);
            assert_eq!(parse(&address.to_string()).unwrap(), address);
        }
    }

    #[cfg(feature = "amqps")]
    #[test]
    fn tls_has_its_own_port() {
        let address = parse("amqps://h?cacertfile=%2fca.pem").unwrap();
        assert_eq!((address.tls, address.port, address.ca), (true, 5671, Some("/ca.pem".into())));
    }

    #[cfg(not(feature = "amqps"))]
    #[test]
    fn tls_needs_its_feature() {
        assert!(parse("amqps://h").unwrap_err().contains("add the feature `amqps`"));
    }

    #[test]
    fn error_says_what_to_write() {
        for (text, expected) in [
            ("amqp://", "the host is missing"),
            ("amqp://h:99999", "invalid port number"),
            ("amqp://h/a/b", "as `%2f`"),
            ("amqp://h?queue=", "1 to 250 bytes"),
            ("amqp://h?queue=amq.x", "does not begin with `amq.`"),
            ("amqp://h?prefetch=0", "from 1 to 65535, not `0`"),
            ("amqp://h?pack=1000", "from 1 to 256"),
            ("amqp://h?cacertfile=x", "only `amqps://`"),
            ("amqp://h?queu=x", "there is no option `queu`"),
            ("amqp://h#x", "nothing follows"),
            ("amqp://me:p#ss@h", "as `%` and two digits"),
            ("amqp://me:p/ss@h", "as `%` and two digits"),
            ("amqp://h?queue=%ff", "no UTF-8"),
            ("amqp://h?queue=a\tb", "a control character"),
            ("amqp://h?queue=a&queue=b", "`queue` is there twice"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn password_is_never_shown() {
        let address = parse("amqp://me:hush@h").unwrap();
        assert!(!format!("{address:?} {address}").contains("hush"));
    }
}
