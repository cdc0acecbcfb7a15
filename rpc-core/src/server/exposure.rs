//! The warning of a server that strangers can reach.

use crate::{
    endpoint::{Endpoint, IpcAddress},
    engine::Engine,
};

/// Those who reach an endpoint besides the programs of its own user or machine.
#[derive(Debug, PartialEq, Eq)]
enum Strangers {
    Network,
    Machine,
}

/// Warns of each endpoint at which strangers may call, because nothing is encrypted there.
pub(super) fn warn(endpoints: &[String], engine: Engine) {
    for endpoint in endpoints {
        let who = match strangers(endpoint) {
            Some(Strangers::Network) => "everybody who reaches it over the network",
            Some(Strangers::Machine) => "every user of this machine",
            None => continue,
        };
        let risk = match engine {
            Engine::Zeromq => "call every function, and end the process by a malformed frame",
            #[cfg(feature = "omq")]
            Engine::Omq => "call every function",
        };
        tracing::warn!(
            endpoint,
            "{who} may {risk}: give the server keys and an access list (feature `curve`, \
             `ServerBuilder::curve`), or listen on 127.0.0.1 or on an ipc path"
        );
    }
}

/// Returns the strangers that reach an endpoint of a server. `None` if there are none.
fn strangers(endpoint: &str) -> Option<Strangers> {
    match Endpoint::to_bind(endpoint).ok()? {
        Endpoint::Ipc(IpcAddress::Abstract(_)) => Some(Strangers::Machine),
        endpoint @ Endpoint::Tcp { .. } if !endpoint.is_local() => Some(Strangers::Network),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_come_over_the_network_or_by_abstract_names() {
        for (endpoint, expected) in [
            ("tcp://127.0.0.1:5555", None),
            ("tcp://127.8.8.8:5555", None),
            ("tcp://[::1]:5555", None),
            ("tcp://0.0.0.0:5555", Some(Strangers::Network)),
            ("tcp://[::]:5555", Some(Strangers::Network)),
            ("tcp://192.168.1.7:5555", Some(Strangers::Network)),
            ("tcp://[fe80::1%1]:5555", Some(Strangers::Network)),
            ("ipc:///run/app.sock", None),
            ("ipc://@app", Some(Strangers::Machine)),
            ("inproc://app", None),
            #[cfg(feature = "amqp")]
            ("amqp://broker/?queue=app", None),
        ] {
            assert_eq!(strangers(endpoint), expected, "{endpoint}");
        }
    }
}
