//! The options of a server that is encrypted.

use crate::{access::Access, keys::SecretKey, server::ServerBuilder};

impl ServerBuilder {
    /// Encrypts all connections over `tcp://` and `ipc://` with
    /// [CURVE](https://rfc.zeromq.org/spec/26/). The server proves that it has the key `secret`,
    /// whose [public key](SecretKey::public) its clients must know.
    ///
    /// It needs an [access list](Self::access) and `Engine::Omq`. Clients without a key are not
    /// connected.
    ///
    /// ```no_run
    /// use rpc_core::{Access, Engine, PublicKey, SecretKey, Server};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let alice = PublicKey::from_file("alice.key")?;
    /// let server = Server::builder()
    ///     .engine(Engine::Omq)
    ///     .curve(SecretKey::from_file("server.key_secret")?)
    ///     .access(Access::new().allow("alice", alice, ["count_words"]))
    ///     .bind("tcp://*:5555")
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn curve(mut self, secret: SecretKey) -> Self {
        self.config.curve = Some(secret);
        self
    }

    /// Sets the list of the keys that may connect, and of the functions that each may call. The
    /// program can keep a clone, and change the list while the server runs.
    ///
    /// It needs [`curve`](Self::curve). Clients over `inproc://` are in this program, and may call
    /// everything.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.config.gate.access = Some(access);
        self
    }
}
