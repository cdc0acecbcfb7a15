//! More handshakes than an engine lets be under way.

use std::time::{Duration, Instant};

use rpc_core::{Client, Engine};
use tests::{PATIENCE, soon};
use tokio::task::spawn_blocking;

use crate::{
    Pair, child, works,
    zmtp::{Stranger, greeting},
};

/// Twice what `omq` takes, and with the server's ends less than the 4,096 files that every system
/// allows.
const STRANGERS: usize = 2_000;
/// How many it takes, and for how long.
const LIMIT: usize = 1_024;
const HANDSHAKE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn omq_has_a_limit_for_handshakes_and_zeromq_has_none() {
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
        // It may have been sent away.
        let _ = stranger.say(&greeting(1)[..20]).await;
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
    while strangers.iter().filter(|stranger| stranger.is_tolerated()).count() > LIMIT {
        pair.works().await;
    }
    // Those that are too many go first, and at once.
    assert!(strangers[0].is_tolerated() || begin.elapsed() > HANDSHAKE);
    // A client that comes now is sent away as well, and comes again.
    let newcomer = Client::builder().connect_timeout(PATIENCE).connect(pair.server.endpoint());
    for stranger in &mut strangers {
        stranger.is_sent_away().await;
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
        strangers.iter().all(Stranger::is_tolerated),
        "the table in ARCHITECTURE.md says otherwise"
    );
    pair.end().await;
}
