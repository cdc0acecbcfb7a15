//! Why a connection cannot be made, for engines that try for long and do not say it.

use std::{io, time::Duration};

use tokio::{
    net::{TcpStream, UnixStream},
    time,
};

use crate::{
    endpoint::{Endpoint, Host},
    transport::TransportError,
};

/// What is said of somebody who takes connections and does not shake hands.
pub(super) const NOT_ZEROMQ: &str = "something takes connections there, but does not answer as ZeroMQ (ZMTP 3): it is frozen, or something else";

/// How long an engine is given before anybody looks: one that succeeds with a machine nearby is
/// faster, and its server never sees a second connection.
const FIRST_LOOK: Duration = Duration::from_millis(20);

/// Tells why nobody can be reached, or that nobody could be within `timeout`. It never ends if
/// there is somebody.
pub(super) async fn unreachable(endpoint: &Endpoint, timeout: Duration) -> TransportError {
    time::sleep(FIRST_LOOK).await;
    match time::timeout(timeout.saturating_sub(FIRST_LOOK), reach(endpoint)).await {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(reason)) => reason.into(),
        Err(_) => "the host does not answer".into(),
    }
}

/// Connects without ZeroMQ.
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
