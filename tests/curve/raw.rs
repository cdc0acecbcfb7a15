//! A DEALER socket of the engine itself, with a key and a name of the test's choice.

use std::time::Duration;

use bytes::Bytes;
use omq_tokio::{CurveKeypair, CurvePublicKey, Endpoint, Message, Options, Socket, SocketType};
use rpc_core::PublicKey;
use serde::Serialize;
use tokio::time::timeout;

/// The time after which no answer is taken for none.
const NO_ANSWER: Duration = Duration::from_millis(500);

pub(crate) struct Raw(Socket);

impl Raw {
    /// Connects to the server with the key `server`. Whether that lets it in is seen when it is
    /// asked.
    pub(crate) async fn connect(
        endpoint: &str,
        server: PublicKey,
        keys: CurveKeypair,
        name: Option<&[u8]>,
    ) -> Self {
        let server = CurvePublicKey::from_bytes(*server.as_bytes());
        let mut options = Options::new().curve_client(keys, server);
        if let Some(name) = name {
            options = options.identity(Bytes::copy_from_slice(name));
        }
        let socket = Socket::new(SocketType::Dealer, options);
        socket.connect(endpoint.parse::<Endpoint>().unwrap()).await.unwrap();
        Self(socket)
    }

    /// Sends a message of the protocol.
    pub(crate) async fn send(&self, message: &impl Serialize) {
        let body = rmp_serde::to_vec(message).unwrap();
        self.0.send(Message::multipart([Bytes::new(), body.into()])).await.unwrap();
    }

    /// Returns the next message, if one comes within half a second.
    pub(crate) async fn recv(&self) -> Option<Vec<u8>> {
        let message = timeout(NO_ANSWER, self.0.recv()).await.ok()?.ok()?;
        message.iter().last().map(|frame| frame.to_vec())
    }

    /// Calls `add(1, 2)`, and returns true if there is an answer.
    pub(crate) async fn is_answered(&self) -> bool {
        self.send(&(0, 1, "add", (1, 2))).await;
        self.recv().await.is_some()
    }
}
