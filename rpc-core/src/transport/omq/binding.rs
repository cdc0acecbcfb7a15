//! A listener of the engine `omq` that is being bound.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
};

use omq_tokio::{Endpoint, IpcPath};

use crate::{
    endpoint::IpcAddress,
    transport::{
        self, BoxFuture, TransportConfig, TransportError,
        omq::{Listener, cause, tcp_endpoint},
        socket_file, tcp,
    },
};

/// The number of ports that are tried, if any free port will do.
const PORTS: usize = 8;

/// A ROUTER socket that is being bound.
pub(in crate::transport) struct Binding(Listener);

impl Binding {
    pub(in crate::transport) fn new(config: &TransportConfig) -> Self {
        Self(Listener::new(config))
    }

    async fn bind_tcp(&mut self, addresses: &[SocketAddr]) -> Result<u16, TransportError> {
        if let Some(SocketAddr::V6(zoned)) = addresses.iter().find(|address| has_zone(address)) {
            return Err(format!(
                "the engine `omq` cannot listen on an address with a zone, as {}%{}: listen on \
                 `tcp://*:{}`, or use the engine `zeromq`",
                zoned.ip(),
                zoned.scope_id(),
                zoned.port()
            )
            .into());
        }
        if let [address] = addresses {
            return self.bind(tcp_endpoint(*address)).await;
        }
        // Another process could take the port before the engine has it.
        for _ in 1..PORTS {
            let bound = self.bind_all(&free(addresses)?).await;
            if bound.is_ok() || addresses.iter().any(|address| address.port() != 0) {
                return bound;
            }
        }
        self.bind_all(&free(addresses)?).await
    }

    /// Listens on all of `addresses`, or on none.
    async fn bind_all(&mut self, addresses: &[SocketAddr]) -> Result<u16, TransportError> {
        let before = self.0.bound.len();
        let mut bound = Err("no address was given".into());
        for address in addresses {
            bound = self.bind(tcp_endpoint(*address)).await;
            if bound.is_err() {
                for endpoint in self.0.bound.drain(before..) {
                    // An error means that it is not bound any more, which serves as well.
                    let _ = self.0.socket.unbind(endpoint).await;
                }
                break;
            }
        }
        bound
    }

    /// Listens on `endpoint`. Returns the port, which is zero for a socket without one.
    async fn bind(&mut self, endpoint: Endpoint) -> Result<u16, TransportError> {
        let bound = self.0.socket.bind(endpoint).await.map_err(cause)?;
        let port = if let Endpoint::Tcp { port, .. } = bound { port } else { 0 };
        self.0.bound.push(bound);
        Ok(port)
    }

    async fn bind_ipc(&mut self, address: &IpcAddress, mode: u32) -> Result<(), TransportError> {
        match address {
            IpcAddress::Path(path) => self.bind_path(path, mode).await,
            IpcAddress::Abstract(name) => {
                self.bind(Endpoint::Ipc(IpcPath::Abstract(name.clone()))).await.map(drop)
            }
        }
    }

    async fn bind_path(&mut self, path: &Path, mode: u32) -> Result<(), TransportError> {
        let name = socket_file::unused_name(path);
        let own = Endpoint::Ipc(IpcPath::Filesystem(name.clone()));
        self.bind(own).await.map_err(|error| socket_file::explain(path, error))?;
        self.0.files.push(socket_file::publish(name, path, mode).await?);
        Ok(())
    }
}

fn has_zone(address: &SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(address) if address.scope_id() != 0)
}

/// Returns those of `addresses` that this machine has, with a port that is free on all of them. The
/// engine opens its listeners itself, so that these are closed again.
fn free(addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, TransportError> {
    let listeners = tcp::listen(addresses)?;
    Ok(listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}

impl transport::Binding for Binding {
    fn bind_tcp<'a>(
        &'a mut self,
        addresses: &'a [SocketAddr],
    ) -> BoxFuture<'a, Result<u16, TransportError>> {
        Box::pin(self.bind_tcp(addresses))
    }

    fn bind_ipc<'a>(
        &'a mut self,
        address: &'a IpcAddress,
        mode: u32,
    ) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(self.bind_ipc(address, mode))
    }

    fn listen(self: Box<Self>) -> Box<dyn transport::Listener> {
        Box::new(self.0)
    }
}
