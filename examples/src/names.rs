//! Names instead of addresses: where a server registers, and where a client looks for servers.

use std::error::Error;

use rpc_core::{ClientBuilder, Connect, Server};

/// Registers `server` at each of `names`, such as `etcd://127.0.0.1:2379/words`.
///
/// # Errors
/// Fails if a name is malformed, or if the program is built without the feature `etcd`.
pub fn register(server: Server, names: &[String]) -> Result<Server, Box<dyn Error>> {
    let mut server = server;
    for name in names {
        server = register_at(server, name)?;
    }
    Ok(server)
}

/// Connects to the servers that `name` names: `etcd://host/service`, `dns://name:port` or
/// `file:///path`.
///
/// # Errors
/// Fails if the name is malformed, or if the program is built without the feature that it needs.
pub fn connect(builder: ClientBuilder, name: &str) -> Result<Connect, Box<dyn Error>> {
    if name.starts_with("etcd://") {
        return connect_by_etcd(builder, name);
    }
    Ok(builder.connect(name))
}

#[cfg(feature = "etcd")]
fn register_at(server: Server, name: &str) -> Result<Server, Box<dyn Error>> {
    Ok(server.register(rpc_etcd::Names::parse(name)?))
}

#[cfg(feature = "etcd")]
fn connect_by_etcd(builder: ClientBuilder, name: &str) -> Result<Connect, Box<dyn Error>> {
    Ok(builder.connect_via(rpc_etcd::Names::parse(name)?))
}

#[cfg(not(feature = "etcd"))]
const WITHOUT: &str = "build this program with `--features etcd` for names in etcd";

#[cfg(not(feature = "etcd"))]
fn register_at(_: Server, _: &str) -> Result<Server, Box<dyn Error>> {
    Err(WITHOUT.into())
}

#[cfg(not(feature = "etcd"))]
fn connect_by_etcd(_: ClientBuilder, _: &str) -> Result<Connect, Box<dyn Error>> {
    Err(WITHOUT.into())
}
