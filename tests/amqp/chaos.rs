//! Servers that are killed, stopped and restarted, and connections to the broker that are lost,
//! while calls are in flight. What each call said is compared with what was executed.

use std::{collections::BTreeMap, time::Duration};

use fastrand::Rng;
use rpc_core::{CallError, Client, Ran};
use tests::{
    ledger::Ledger,
    process::ServerProcess,
    relay::{Cut, Mode, Relay},
    served::{REFUSED, count},
};

use crate::{BROKER, server};

const CALLS: u64 = 20_000;
const AT_A_TIME: usize = 64;

/// Injects one fault after the other into a server and its way to the broker.
async fn disturb(mut server: ServerProcess, relay: Relay, mut random: Rng) {
    loop {
        tokio::time::sleep(Duration::from_millis(random.u64(200..700))).await;
        let a_while = Duration::from_millis(random.u64(50..700));
        match random.u8(0..6) {
            0 => {
                server.kill();
                tokio::time::sleep(a_while).await;
                tokio::task::block_in_place(|| server.restart());
            }
            1 => {
                server.stop();
                tokio::time::sleep(a_while).await;
                server.resume();
            }
            2 => {
                server.terminate();
                assert!(server.ended().await.success());
                tokio::task::block_in_place(|| server.restart());
            }
            3 => relay.cut(Cut::Reset),
            4 => relay.cut(Cut::Close),
            _ => {
                relay.set_both(Mode::Freeze);
                tokio::time::sleep(a_while).await;
                relay.set_both(Mode::Pass);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn calls_tell_the_truth_whatever_happens() {
    let seed = std::env::var("RPC_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("RPC_SEED={seed}");
    let (endpoint, ledger) = (BROKER.endpoint(), Ledger::new());
    let mut disturbing = Vec::new();
    for member in 0..3 {
        let relay = Relay::start(BROKER.address()).await;
        let address = relay.endpoint().replace("tcp://", "");
        let relayed = endpoint.replace(&BROKER.address().to_string(), &address);
        // Many servers die while they hold a request: that does not make it poison here.
        let options = format!("{relayed}&delivery_limit=1000");
        let server = server(&options, &["--ledger", ledger.path()]);
        disturbing.push(tokio::spawn(disturb(server, relay, Rng::with_seed(seed + member))));
    }
    let client_relay = Relay::start(BROKER.address()).await;
    let address = client_relay.endpoint().replace("tcp://", "");
    let client = Client::builder()
        .connect_timeout(Duration::from_secs(60))
        .timeout(Duration::from_secs(30))
        .connect(endpoint.replace(&BROKER.address().to_string(), &address))
        .await
        .unwrap();
    let cutting = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            client_relay.cut(Cut::Reset);
        }
    });
    let calls: Vec<_> = (1..=CALLS)
        .take(AT_A_TIME)
        .map(|first| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut said = Vec::new();
                for id in (first..=CALLS).step_by(AT_A_TIME) {
                    said.push((id, count::call(&client, id, id % 9).await));
                }
                said
            })
        })
        .collect();
    let mut said = Vec::new();
    for calls in calls {
        let all = tokio::time::timeout(Duration::from_secs(300), calls).await;
        said.extend(all.expect("every call ends").unwrap());
    }
    cutting.abort();
    for disturbing in disturbing {
        assert!(!disturbing.is_finished(), "{:?}", disturbing.await);
        disturbing.abort();
    }
    let ran = ledger.executions();
    let mut tally = BTreeMap::<String, (u32, u32)>::new();
    for (id, outcome) in &said {
        let times = ran.get(id).copied().unwrap_or_default();
        let what = match outcome {
            Ok(_) => {
                assert!(times >= 1 && !id.is_multiple_of(REFUSED), "{id} ran {times} times");
                "Ok".to_owned()
            }
            Err(CallError::Failed(_)) => {
                assert!(times >= 1 && id.is_multiple_of(REFUSED), "{id} ran {times} times");
                "Failed".to_owned()
            }
            Err(CallError::Rpc(error)) => {
                let truth = match error.ran() {
                    Ran::No => times == 0,
                    Ran::Yes => times >= 1,
                    Ran::Maybe => true,
                };
                assert!(truth, "{id} ran {times} times: {error}");
                format!("{:?}, {:?}", error.kind(), error.ran())
            }
        };
        let (calls, twice) = tally.entry(what).or_default();
        *calls += 1;
        *twice += u32::from(times > 1);
    }
    println!(
        "what {} calls said is true (calls, of which ran more than once): {tally:#?}",
        said.len()
    );
    assert!(tally["Ok"].0 > 15_000, "{tally:?}");
}
