//! The reason why a connection cannot be made, for engines that keep trying and do not report it.

use std::{io, time::Duration};

use tokio::{
    net::{TcpStream, UnixStream},
    time,
};

use crate::{
    endpoint::{Endpoint, Host},
    transport::TransportError,
};

/// The error text for a peer that accepts connections and does not complete the handshake.
pub(super) const NOT_ZEROMQ: &str = "something takes connections there, but does not answer as ZeroMQ (ZMTP 3): it is frozen, or something else";

/// The time that an engine is given before this file makes a connection of its own. An engine that
/// connects to a machine nearby is faster, so that its server never sees a second connection.
const FIRST_LOOK: Duration = Duration::from_millis(20);

/// Returns the reason why no peer can be reached at `endpoint`, at the latest after `timeout`. The
/// future never completes if a peer accepts the connection.
pub(super) async fn unreachable(endpoint: &Endpoint, timeout: Duration) -> TransportError {
    time::sleep(FIRST_LOOK).await;
    match time::timeout(timeout.saturating_sub(FIRST_LOOK), reach(endpoint)).await {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(reason)) => reason.into(),
        Err(_) => "the host does not answer".into(),
    }
}

/// Makes a connection without ZeroMQ, and closes it. The error is that of the operating system.
pub(super) async fn reach(endpoint: &Endpoint) -> io::Result<()> {
    match endpoint {
        Endpoint::Tcp { host: Host::Address(address), port } => {
            TcpStream::connect((*address, *port)).await.map(drop)
        }
        Endpoint::Tcp { host: Host::Name(name), port } => {
            TcpStream::connect((name.as_str(), *port)).await.map(drop)
        }
        Endpoint::Ipc(path) => UnixStream::connect(path).await.map(drop),
        Endpoint::Inproc(_) => Ok(()),
    }
}
