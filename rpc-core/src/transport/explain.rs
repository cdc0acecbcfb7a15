//! Why a connection could not be made, for engines that do not say it.

use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};

use crate::{
    endpoint::{Endpoint, Host},
    transport::TransportError,
};

/// How much of the time for connecting [`unreachable`] gets, at most.
const LONGEST_LOOK: Duration = Duration::from_millis(200);

/// Splits the time for connecting: what the engine gets, and what is left to find out why it failed.
pub(super) fn split(timeout: Duration) -> (Duration, Duration) {
    let look = (timeout / 4).min(LONGEST_LOOK);
    (timeout.saturating_sub(look), look)
}

/// Connects without ZeroMQ, and tells why that fails. `None` if something listens there.
pub(super) async fn unreachable(endpoint: &Endpoint, look: Duration) -> Option<TransportError> {
    let reached = async {
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
    };
    match tokio::time::timeout(look, reached).await {
        Ok(reached) => reached.err().map(Into::into),
        Err(_) => Some("the host does not answer".into()),
    }
}
