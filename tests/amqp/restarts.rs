//! The broker is killed, and started again with what it has stored.

use std::{collections::BTreeMap, time::Duration};

use rpc_core::{CallError, Client, ErrorKind, Ran};
use tests::{
    ledger::Ledger,
    rabbitmq::RabbitMq,
    served::{REFUSED, count},
    soon,
};

use crate::{ALONE, server, until};

/// The age at which RabbitMQ 3.10 finds a quorum queue again after SIGKILL. It does not find a newer
/// one, and says nothing when it has written everything down.
const AGE: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn confirmed_notifications_survive_everything() {
    let _alone = ALONE.lock().await;
    let (mut broker, ledger) = (RabbitMq::start(""), Ledger::new());
    let endpoint = broker.endpoint();
    let mut away = server(&endpoint, &["--ledger", ledger.path()]);
    away.kill();
    let client = Client::connect(&endpoint).await.unwrap();
    for id in 1..=300 {
        soon("it is stored", count::notify(&client, id, 0)).await.unwrap();
    }
    drop(client);
    tokio::time::sleep(AGE).await;
    broker.kill();
    tokio::task::block_in_place(|| broker.restart());
    assert!(ledger.executions().is_empty());
    away.restart();
    until("all run", async || ledger.executions().len() == 300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn broker_killed_under_load() {
    let _alone = ALONE.lock().await;
    let (mut broker, ledger) = (RabbitMq::start(""), Ledger::new());
    let endpoint = broker.endpoint();
    let _servers = [(); 2].map(|()| server(&endpoint, &["--ledger", ledger.path()]));
    tokio::time::sleep(AGE).await;
    let client = Client::builder()
        .connect_timeout(Duration::from_secs(60))
        .timeout(Duration::from_secs(30))
        .connect(&endpoint)
        .await
        .unwrap();
    let calls: Vec<_> = (0..32)
        .map(|first| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut said = Vec::new();
                for id in (first..6_400).step_by(32) {
                    let outcome = if id % 5 == 0 {
                        let stored = count::notify(&client, id, 1).await;
                        stored.map(|()| id).map_err(CallError::Rpc)
                    } else {
                        count::call(&client, id, id % 5).await
                    };
                    said.push((id, outcome));
                }
                said
            })
        })
        .collect();
    until("some run", async || ledger.executions().len() > 500).await;
    broker.kill();
    tokio::task::block_in_place(|| broker.restart());
    let mut said = Vec::new();
    for call in calls {
        said.extend(soon("every call ends", call).await.unwrap());
    }
    // Notifications that were confirmed before the broker was killed run in the end.
    let confirmed = |id: &u64, ok: bool| ok && id.is_multiple_of(5);
    until("what was confirmed has run", async || {
        let ran = ledger.executions();
        said.iter().all(|(id, outcome)| !confirmed(id, outcome.is_ok()) || ran.contains_key(id))
    })
    .await;
    let ran = ledger.executions();
    let mut tally = BTreeMap::<_, u32>::new();
    for (id, outcome) in &said {
        let times = ran.get(id).copied().unwrap_or(0);
        let what = match outcome {
            Ok(_) => {
                assert!(times >= 1, "{id} has run");
                "ok".to_owned()
            }
            Err(CallError::Failed(_)) => {
                assert!(id.is_multiple_of(REFUSED) && times >= 1, "{id} has run");
                "failed".to_owned()
            }
            Err(CallError::Rpc(error)) => {
                assert!(error.ran() != Ran::No || times == 0, "{id} ran {times} times: {error}");
                assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
                format!("{:?}", error.ran())
            }
        };
        *tally.entry(what).or_default() += 1;
    }
    let twice = ran.values().filter(|times| **times > 1).count();
    println!(
        "the broker was killed: of {} calls {tally:?}, {twice} ran more than once",
        said.len()
    );
    assert!(tally["ok"] > 5_000, "{tally:?}");
}
