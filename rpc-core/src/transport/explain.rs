//! The reason why a connection cannot be made, for engines that keep trying and do not report it.

use std::{io, time::Duration};

use tokio::{
    net::{TcpStream, UnixStream},
    time,
};

use crate::{
    endpoint::IpcAddress,
    transport::{Address, TransportError},
};

/// The error text for a peer that accepts connections and does not complete the handshake.
pub(super) const NOT_ZEROMQ: &str = "something takes connections there, but does not answer as ZeroMQ (ZMTP 3): it is frozen, or something else";

/// The time that an engine is given before this file makes a connection of its own. An engine that
/// connects to a machine nearby is faster, so that its server never sees a second connection.
const FIRST_LOOK: Duration = Duration::from_millis(20);

/// Returns the reason why no peer can be reached at `address`, at the latest after `timeout`. The
/// future never completes if a peer accepts the connection.
pub(super) async fn unreachable(address: &Address, timeout: Duration) -> TransportError {
    time::sleep(FIRST_LOOK).await;
    match time::timeout(timeout.saturating_sub(FIRST_LOOK), reach(address)).await {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(reason)) => reason.into(),
        Err(_) => "the host does not answer".into(),
    }
}

/// Makes a connection without ZeroMQ, and closes it. The error is that of the operating system.
pub(super) async fn reach(address: &Address) -> io::Result<()> {
    open(address).await.map(drop)
}

/// A connection without ZeroMQ.
pub(super) enum Stream {
    Tcp(TcpStream),
    Ipc(UnixStream),
}

/// Makes a connection without ZeroMQ. The error is that of the operating system.
pub(super) async fn open(address: &Address) -> io::Result<Stream> {
    match address {
        Address::Tcp(address) => TcpStream::connect(address).await.map(Stream::Tcp),
        Address::Ipc(IpcAddress::Path(path)) => UnixStream::connect(path).await.map(Stream::Ipc),
        // The zero byte in front marks the abstract namespace.
        Address::Ipc(IpcAddress::Abstract(name)) => {
            UnixStream::connect(format!("\0{name}")).await.map(Stream::Ipc)
        }
    }
}
