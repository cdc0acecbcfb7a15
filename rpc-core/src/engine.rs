//! Which ZeroMQ implementation carries `tcp://` and `ipc://`. It is chosen for each server and each
//! client; the wire is the same, and they mix freely.

/// The ZeroMQ implementation that a server or a client uses for `tcp://` and `ipc://`.
///
/// It changes nothing of the protocol: clients of one engine call servers of the other. What
/// differs is how much a peer is trusted.
///
/// ```
/// use rpc_core::{Engine, Server};
///
/// let builder = Server::builder().engine(Engine::Zeromq);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Engine {
    /// The `zeromq` crate: small, ZMTP 3.0, for peers that are trusted. It allocates what a frame's
    /// header announces, so that anyone who reaches the port can end the process; it does not limit
    /// how long or how many handshakes are under way; it does not understand heartbeats, and ends
    /// the connections of peers that send them.
    #[default]
    Zeromq,
    /// The `omq-tokio` crate: ZMTP 3.1, for servers that strangers can reach. The sizes of frames
    /// and messages, the time for a handshake and the number of handshakes are limited, before
    /// anything is allocated. Heartbeats are answered, and sent to peers that understand them, so
    /// that a peer that vanished is noticed. It is younger than the other, and needs the feature
    /// `omq` and Rust 1.93.
    #[cfg(feature = "omq")]
    Omq,
}
