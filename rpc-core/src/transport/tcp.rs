//! Listening on TCP addresses that belong together: all addresses of a host, on the same port.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use socket2::{Domain, Socket, Type};

/// The number of connections that may wait to be accepted. The operating system may allow fewer.
const BACKLOG: i32 = 1_024;
/// The number of ports that are tried, if any free port will do. A port that is free on the first
/// address is rarely taken on another one.
const PORTS: usize = 32;

/// Returns the addresses that together are every interface of this machine: one address for IPv6
/// and IPv4 both, if the operating system has that.
pub(super) fn every_interface(port: u16) -> Vec<SocketAddr> {
    unspecified(ipv6_only().ok(), port)
}

/// Returns the addresses of every interface. `ipv6_only` is that of the function below, if there is
/// IPv6.
fn unspecified(ipv6_only: Option<bool>, port: u16) -> Vec<SocketAddr> {
    let ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let ipv6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match ipv6_only {
        Some(false) => vec![ipv6],
        Some(true) => vec![ipv4, ipv6],
        None => vec![ipv4],
    }
}

/// Returns true if the IPv6 sockets of this machine do not take IPv4 connections unless they are
/// told to. An error means that there is no IPv6.
fn ipv6_only() -> io::Result<bool> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
    socket.only_v6()
}

/// Listens on all `addresses`, which have the same port. If that is zero, any port that is free on
/// all of them is taken. Addresses that this machine does not have are left out, unless it has none
/// of them: `localhost` is often listed with an IPv6 address where there is no IPv6.
pub(super) fn listen(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let any_port = addresses.iter().all(|address| address.port() == 0);
    for _ in 1..PORTS {
        match listen_once(addresses) {
            Err(error) if any_port && error.kind() == io::ErrorKind::AddrInUse => {}
            done => return done,
        }
    }
    listen_once(addresses)
}

fn listen_once(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::<TcpListener>::new();
    let mut missing = None;
    for address in addresses {
        let mut address = *address;
        if let Some(first) = listeners.first() {
            address.set_port(first.local_addr()?.port());
        }
        match open(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_missing(address, &error) => {
                let text = format!("this machine does not have the address {}", address.ip());
                missing.get_or_insert(io::Error::new(error.kind(), text));
            }
            Err(error) if addresses.len() > 1 => {
                return Err(io::Error::new(error.kind(), format!("{address}: {error}")));
            }
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(missing) if listeners.is_empty() => Err(missing),
        _ => Ok(listeners),
    }
}

fn is_missing(address: SocketAddr, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || (address.is_ipv6() && !OUT_OF_FILES.contains(&error.raw_os_error().unwrap_or(0)))
            && Socket::new(Domain::IPV6, Type::STREAM, None).is_err()
}

/// The codes of Unix for the limits of open files of the process (`EMFILE`) and of the system
/// (`ENFILE`), for which the standard library has no kind.
pub(super) const OUT_OF_FILES: [i32; 2] = [24, 23];

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted server can listen at once, although connections of the old one are being closed.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses of the loopback interface, all of which this machine has if it runs Linux.
    fn loopback(hosts: &[u8], port: u16) -> Vec<SocketAddr> {
        hosts.iter().map(|host| SocketAddr::from(([127, 0, 0, *host], port))).collect()
    }

    fn ports(listeners: &[TcpListener]) -> Vec<u16> {
        listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn all_addresses_get_the_same_port() {
        let listeners = listen(&loopback(&[1, 2, 3], 0)).unwrap();
        let ports = ports(&listeners);
        assert_eq!(ports.len(), 3);
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn error_names_the_address_that_is_taken() {
        let taken = open(loopback(&[2], 0)[0]).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = listen(&loopback(&[3, 2], port)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("127.0.0.2:{port}: ")), "{error}");
        // Nothing is left listening: the first address is free again.
        open(loopback(&[3], port)[0]).unwrap();
    }

    #[test]
    fn missing_addresses_are_left_out_unless_all_are() {
        // These addresses are for documentation (RFC 5737), so that no machine has them.
        let missing: [SocketAddr; 2] =
            ["192.0.2.1:0".parse().unwrap(), "[2001:db8::1]:0".parse().unwrap()];
        let some = [missing[0], loopback(&[1], 0)[0], missing[1]];
        assert_eq!(listen(&some).unwrap().len(), 1);
        let error = listen(&missing).unwrap_err();
        assert_eq!(error.to_string(), "this machine does not have the address 192.0.2.1");
    }

    #[test]
    fn every_interface_falls_back_to_ipv4() {
        let texts = |ipv6_only| -> Vec<_> {
            unspecified(ipv6_only, 5).iter().map(SocketAddr::to_string).collect()
        };
        assert_eq!(texts(Some(false)), ["[::]:5"]);
        assert_eq!(texts(Some(true)), ["0.0.0.0:5", "[::]:5"]);
        assert_eq!(texts(None), ["0.0.0.0:5"]);
    }
}
