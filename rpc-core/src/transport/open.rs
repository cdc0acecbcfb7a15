//! Opening of listeners and links: the endpoint and the engine decide about the transport.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::time;

use crate::{
    endpoint::{Endpoint, Host},
    engine::Engine,
    transport::{
        Address, Binding, Link, Listener, TransportConfig, TransportError, Workload, explain,
        inproc, mechanism, race, resolve, tcp, zeromq,
    },
};

#[cfg(feature = "amqp")]
use crate::transport::amqp::{link, listener};
#[cfg(feature = "omq")]
use crate::transport::omq::{binding, link as omq_link};
#[cfg(test)]
mod tests;

fn open(config: &TransportConfig) -> Box<dyn Binding> {
    match config.engine {
        Engine::Zeromq => Box::new(zeromq::Binding::new()),
        #[cfg(feature = "omq")]
        Engine::Omq => Box::new(binding::Binding::new(config)),
    }
}

/// Listens on all `endpoints`. Returns the listeners, and the bound endpoints in the same order. An
/// error names the endpoint that failed.
#[cfg_attr(not(feature = "amqp"), allow(unused_variables))] // Only a broker asks for the workload.
pub(crate) async fn listen(
    endpoints: Vec<Endpoint>,
    config: &TransportConfig,
    ipc_mode: u32,
    workload: Workload,
) -> Result<(Vec<Box<dyn Listener>>, Vec<String>), (Endpoint, TransportError)> {
    // One socket serves all endpoints that ZeroMQ carries.
    let mut socket = None;
    let (mut listeners, mut bound) = (Vec::<Box<dyn Listener>>::new(), Vec::new());
    for endpoint in endpoints {
        let listening = match &endpoint {
            Endpoint::Inproc(name) => inproc::listen(name).map(|listener| {
                listeners.push(Box::new(listener));
                endpoint.to_string()
            }),
            #[cfg(feature = "amqp")]
            Endpoint::Amqp(_) if config.encrypts() => Err(NO_KEYS.into()),
            #[cfg(feature = "amqp")]
            Endpoint::Amqp(address) => {
                let listening = listener::listen(address, config.max_message_size, workload).await;
                listening.map(|listener| {
                    listeners.push(Box::new(listener));
                    endpoint.to_string()
                })
            }
            _ => {
                let socket = socket.get_or_insert_with(|| open(config));
                bind(socket.as_mut(), &endpoint, ipc_mode).await
            }
        };
        bound.push(listening.map_err(|error| (endpoint, error))?);
    }
    listeners.extend(socket.map(Binding::listen));
    Ok((listeners, bound))
}

/// The reason why no broker is used together with `.curve(...)`.
#[cfg(feature = "amqp")]
const NO_KEYS: &str = "a broker passes no keys on, so that nobody would be checked: leave out \
    `.curve(...)`, and protect the broker by its users and by `amqps://`";

/// Listens on one endpoint that ZeroMQ carries. Returns the endpoint that clients connect to.
async fn bind(
    binding: &mut dyn Binding,
    endpoint: &Endpoint,
    ipc_mode: u32,
) -> Result<String, TransportError> {
    let bound = match endpoint {
        Endpoint::Tcp { host, port } => {
            let addresses = match host {
                Host::Any => tcp::every_interface(*port),
                host => resolve::addresses(host, *port).await?,
            };
            endpoint.with_port(binding.bind_tcp(&addresses).await?)
        }
        Endpoint::Ipc(address) => {
            binding.bind_ipc(address, ipc_mode).await?;
            endpoint.clone()
        }
        Endpoint::Inproc(_) => unreachable!("memory needs no ZeroMQ socket"),
        #[cfg(feature = "amqp")]
        Endpoint::Amqp(_) => unreachable!("a broker needs no ZeroMQ socket"),
    };
    Ok(bound.to_string())
}

/// Opens a link to `endpoint`. Fails at the latest at `by`.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    config: &TransportConfig,
    by: Instant,
) -> Result<Link, TransportError> {
    match endpoint {
        Endpoint::Tcp { host, port } => {
            let Ok(found) = time::timeout_at(by.into(), resolve::addresses(host, *port)).await
            else {
                return Err("the host's name was not found in time".into());
            };
            connect_to_any(&found?, config, by).await
        }
        Endpoint::Ipc(address) => connect_to(Address::Ipc(address.clone()), config, by).await,
        Endpoint::Inproc(name) => time::timeout_at(by.into(), inproc::connect(name)).await?,
        #[cfg(feature = "amqp")]
        Endpoint::Amqp(_) if config.encrypts() => Err(NO_KEYS.into()),
        #[cfg(feature = "amqp")]
        Endpoint::Amqp(address) => link::connect(address, config.max_message_size, by).await,
    }
}

/// Opens a link to the first of `addresses` that answers. Fails at the latest at `by`.
async fn connect_to_any(
    addresses: &[SocketAddr],
    config: &TransportConfig,
    by: Instant,
) -> Result<Link, TransportError> {
    let head_start = race::head_start(addresses.len(), left(by));
    race::first(addresses, head_start, |address| connect_to(Address::Tcp(address), config, by))
        .await
}

fn left(by: Instant) -> Duration {
    by.saturating_duration_since(Instant::now())
}

/// Opens a link to one address. Fails at the latest at `by`.
async fn connect_to(
    address: Address,
    config: &TransportConfig,
    by: Instant,
) -> Result<Link, TransportError> {
    let timeout = left(by);
    let connecting = async {
        match config.engine {
            Engine::Zeromq => zeromq::connect(&address, timeout).await,
            #[cfg(feature = "omq")]
            Engine::Omq => omq_link::connect(&address, config, timeout).await,
        }
    };
    let link = tokio::select! {
        biased;
        link = connecting => link,
        // This has less time than the engine, because its error says more.
        reason = explain::unreachable(&address, timeout * 3 / 4) => return Err(reason),
    };
    match link {
        Ok(link) => Ok(link),
        Err(cause) if left(by).is_zero() => Err(cause),
        Err(cause) => Err(mechanism::explain(&address, config, cause).await),
    }
}
