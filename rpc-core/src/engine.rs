//! The choice of the ZeroMQ implementation.

/// The ZeroMQ implementation that a server or a client uses for `tcp://` and `ipc://`.
///
/// The engine is chosen for each server and each client, and engines mix freely. Both speak the
/// same protocol, so that a client with one engine can call a server with the other. They differ in
/// how much they trust a peer.
///
/// ```
/// use rpc_core::{Engine, Server};
///
/// let builder = Server::builder().engine(Engine::Zeromq);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Engine {
    /// The `zeromq` crate: small, ZMTP 3.0, for peers that are trusted.
    ///
    /// - It allocates as much memory as the header of a frame announces. So anyone who can reach
    ///   the port can end the process.
    /// - It limits neither the time nor the number of handshakes.
    /// - It does not understand heartbeats, and ends the connections of peers that send them.
    #[default]
    Zeromq,
    /// The `omq-tokio` crate: ZMTP 3.1, for servers that untrusted peers can reach.
    ///
    /// - It limits the sizes of frames and messages, the time of a handshake and the number of
    ///   handshakes, before it allocates anything.
    /// - It answers heartbeats, and sends them to peers that understand them. So it notices that a
    ///   peer has vanished.
    /// - It is younger than the other engine, and needs the feature `omq` and Rust 1.93.
    #[cfg(feature = "omq")]
    Omq,
}
