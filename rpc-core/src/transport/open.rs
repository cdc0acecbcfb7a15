//! Opening of listeners and links: the endpoint and the engine decide about the transport.

use std::time::Instant;

use tokio::time;

use crate::{
    endpoint::Endpoint,
    engine::Engine,
    transport::{
        Binding, Link, Listener, TransportConfig, TransportError, explain, inproc, zeromq,
    },
};

#[cfg(feature = "omq")]
use crate::transport::omq;

fn binding(config: TransportConfig) -> Box<dyn Binding> {
    match config.engine {
        Engine::Zeromq => Box::new(zeromq::Binding::new()),
        #[cfg(feature = "omq")]
        Engine::Omq => Box::new(omq::Binding::new(config.max_message_size)),
    }
}

/// Listens on all `endpoints`. Returns the listeners, and the bound endpoints in the same order. An
/// error names the endpoint that failed.
pub(crate) async fn listen(
    endpoints: Vec<Endpoint>,
    config: TransportConfig,
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
            _ => socket.get_or_insert_with(|| binding(config)).bind(&endpoint).await,
        };
        bound.push(listening.map_err(|error| (endpoint, error))?);
    }
    listeners.extend(socket.map(Binding::listen));
    Ok((listeners, bound))
}

/// Opens a link to `endpoint`. Fails at the latest at `by`.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    config: TransportConfig,
    by: Instant,
) -> Result<Link, TransportError> {
    if let Endpoint::Inproc(name) = endpoint {
        return time::timeout_at(by.into(), inproc::connect(name)).await?;
    }
    let timeout = by.saturating_duration_since(Instant::now());
    let connecting = async {
        match config.engine {
            Engine::Zeromq => zeromq::connect(endpoint, timeout).await,
            #[cfg(feature = "omq")]
            Engine::Omq => omq::connect(endpoint, config.max_message_size, timeout).await,
        }
    };
    tokio::select! {
        biased;
        link = connecting => link,
        // This has less time than the engine, because its error says more.
        reason = explain::unreachable(endpoint, timeout * 3 / 4) => Err(reason),
    }
}
