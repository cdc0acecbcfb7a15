//! The options of a client that is encrypted.

use crate::{
    client::ClientBuilder,
    keys::{PublicKey, SecretKey},
    transport::Curve,
};

impl ClientBuilder {
    /// Encrypts all connections over `tcp://` and `ipc://` with
    /// [CURVE](https://rfc.zeromq.org/spec/26/). The client connects only to servers that have one
    /// of the keys `servers`, and proves that it has the key `secret`.
    ///
    /// With several keys, a server can get another key while its clients run: give them the next
    /// key first. It needs `Engine::Omq`.
    ///
    /// ```no_run
    /// use rpc_core::{Client, Engine, PublicKey, SecretKey};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::builder()
    ///     .engine(Engine::Omq)
    ///     .curve([PublicKey::from_file("server.key")?], SecretKey::from_file("alice.key_secret")?)
    ///     .connect("tcp://example.com:5555")
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn curve(
        mut self,
        servers: impl IntoIterator<Item = PublicKey>,
        secret: SecretKey,
    ) -> Self {
        let servers = servers.into_iter().collect();
        self.config.curve = Some(Curve::Client { secret, servers });
        self
    }
}
