//! More concurrent handshakes than an engine allows.

use std::time::{Duration, Instant};

use rpc_core::{Client, Engine};
use tests::{PATIENCE, soon};
use tokio::task::spawn_blocking;

use crate::{
    Pair, child, works,
    zmtp::{Stranger, greeting},
};

/// Twice as many connections as `omq` accepts in the handshake. Together with the server's ends
/// they need fewer than the 4,096 files that every system allows.
const STRANGERS: usize = 2_000;
/// The number of handshakes that `omq` allows at a time. `HANDSHAKE` is the time that each of them
/// may take.
const LIMIT: usize = 1_024;
const HANDSHAKE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn only_omq_limits_concurrent_handshakes() {
    for name in ["flood::on_omq", "flood::on_zeromq"] {
        let mut command = child::test(name);
        let output = soon(name, spawn_blocking(move || command.output())).await.unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

async fn strangers(pair: &Pair) -> Vec<Stranger> {
    let mut strangers = Vec::with_capacity(STRANGERS);
    for n in 0..STRANGERS {
        let mut stranger = Stranger::at(pair.server.endpoint()).await;
        // The server may have closed the connection already.
        let _ = stranger.send(&greeting(1)[..20]).await;
        strangers.push(stranger);
        if n % 100 == 0 {
            pair.works().await;
        }
    }
    strangers
}

#[tokio::test]
#[ignore = "another test runs it, in a process of its own"]
async fn on_omq() {
    let pair = Pair::on(Engine::Omq).await;
    let begin = Instant::now();
    let mut strangers = strangers(&pair).await;
    while strangers.iter().filter(|stranger| stranger.is_connected()).count() > LIMIT {
        pair.works().await;
    }
    // Connections over the limit are closed first, and at once.
    assert!(strangers[0].is_connected() || begin.elapsed() > HANDSHAKE);
    // The server also closes the connection of a new client, and the client connects again.
    let newcomer = Client::builder().connect_timeout(PATIENCE).connect(pair.server.endpoint());
    for stranger in &mut strangers {
        stranger.until_disconnected().await;
    }
    works(&newcomer.await.unwrap()).await;
    pair.end().await;
}

#[tokio::test]
#[ignore = "another test runs it, in a process of its own"]
async fn on_zeromq() {
    let pair = Pair::on(Engine::Zeromq).await;
    let strangers = strangers(&pair).await;
    works(&Client::connect(pair.server.endpoint()).await.unwrap()).await;
    assert!(
        strangers.iter().all(Stranger::is_connected),
        "the table in docs/ENGINES.md says otherwise"
    );
    pair.end().await;
}
