//! The addresses that a host stands for. Nothing is kept: a name is looked up whenever somebody
//! connects or listens, because its addresses may have changed.

use std::net::SocketAddr;

use tokio::net;

use crate::{endpoint::Host, transport::TransportError};

/// Returns the addresses of `host`, in the order in which they are to be tried, each once. There is
/// at least one.
pub(super) async fn addresses(host: &Host, port: u16) -> Result<Vec<SocketAddr>, TransportError> {
    let (name, kind) = match host {
        Host::Any => return Err("`*` is no host to connect to".into()),
        Host::Address(address) => return Ok(vec![SocketAddr::new(*address, port)]),
        // The lookup turns the name of the interface into its number.
        Host::LinkLocal { address, zone } => (format!("{address}%{zone}"), Kind::Zone(zone)),
        Host::Name(name) => (name.clone(), Kind::Name(name)),
    };
    let found = net::lookup_host((name.as_str(), port)).await;
    let found: Vec<_> = found.map_err(|cause| kind.not_found(&cause.to_string()))?.collect();
    if found.is_empty() {
        return Err(kind.not_found("it has no address").into());
    }
    Ok(alternating(found))
}

/// The part of a host that the operating system looks up.
enum Kind<'a> {
    Zone(&'a str),
    Name(&'a str),
}

impl Kind<'_> {
    fn not_found(&self, cause: &str) -> String {
        match self {
            Self::Zone(zone) => {
                format!(
                    "this machine has no network interface `{zone}`, the zone of the address: \
                     {cause}"
                )
            }
            Self::Name(name) => format!("the host name `{name}` was not found: {cause}"),
        }
    }
}

/// Removes repeated addresses, and lets the families take turns, beginning with that of the first
/// address. So a family that does not work costs one head start, and not one for each address.
fn alternating(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut unique = Vec::new();
    for address in found {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    let ipv6_first = unique.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        unique.into_iter().partition(|address| address.is_ipv6() == ipv6_first);
    let mut order = Vec::new();
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return order;
        }
        order.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let cases: [(&[&str], &[&str]); 4] = [
            (&["1.1.1.1:1"], &["1.1.1.1:1"]),
            (&["1.1.1.1:1", "1.1.1.1:1", "2.2.2.2:1"], &["1.1.1.1:1", "2.2.2.2:1"]),
            (
                &["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"],
                &["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"],
            ),
            (
                &["1.1.1.1:1", "[::1]:1", "2.2.2.2:1", "[::2]:1"],
                &["1.1.1.1:1", "[::1]:1", "2.2.2.2:1", "[::2]:1"],
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(alternating(parse(found)), parse(expected));
        }
    }

    #[tokio::test]
    async fn error_names_the_host_or_the_zone() {
        let name = Host::Name("no-such-host.invalid".to_owned());
        let error = addresses(&name, 1).await.unwrap_err().to_string();
        assert!(
            error.starts_with("the host name `no-such-host.invalid` was not found: "),
            "{error}"
        );
        let address = "fe80::1".parse().unwrap();
        let zone = Host::LinkLocal { address, zone: "no-such-if".to_owned() };
        let error = addresses(&zone, 1).await.unwrap_err().to_string();
        assert!(error.contains("no network interface `no-such-if`"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn zone_becomes_the_number_of_the_interface() {
        let address = "fe80::1".parse().unwrap();
        let zone = Host::LinkLocal { address, zone: "lo".to_owned() };
        let found = addresses(&zone, 5).await.unwrap();
        assert_eq!(found, parse(&["[fe80::1%1]:5"]));
    }
}
