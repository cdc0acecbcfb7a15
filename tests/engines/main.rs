//! Guarantees of the engines beyond the protocol: each row of the table in docs/ENGINES.md is a
//! test here. The peers are bare TCP connections. These tests choose their engines themselves and
//! ignore `RPC_TEST_ENGINE`.

mod child;
mod file_limit;
mod flood;
mod heartbeats;
mod identity;
mod signals;
mod slow_reader;
mod strangers;
mod zmtp;

use std::sync::Arc;

use rpc_core::{Client, Engine, ServerHandle};
use tests::{Gate, soon};

use crate::functions::{add, builder};

#[path = "../core/functions.rs"]
#[allow(dead_code)] // The module is shared with `core`, which uses all of it.
mod functions;

/// A server on the given engine, and a client on the default engine.
struct Pair {
    server: ServerHandle,
    client: Client,
    gate: Arc<Gate>,
}

impl Pair {
    async fn on(engine: Engine) -> Self {
        let gate = Arc::default();
        let server =
            builder(&gate).engine(engine).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
        let client = Client::connect(server.endpoint()).await.unwrap();
        Self { server, client, gate }
    }

    /// Checks that the client's calls still succeed.
    async fn works(&self) {
        works(&self.client).await;
    }

    async fn end(self) {
        self.gate.open();
        self.works().await;
        self.client.close().await;
        soon("the server ends", self.server.shutdown()).await;
    }
}

async fn works(client: &Client) {
    for n in 0..10 {
        assert_eq!(add::call(client, n, 1).await.unwrap(), n + 1);
    }
}
