//! A rolling restart: each of three servers drains, ends and is started again. No call is lost, not
//! even a call that may run only once.

use std::time::{Duration, Instant};

use rpc_core::{CallError, Client};
use tests::{
    ledger::Ledger,
    served::{REFUSED, count},
};

use crate::{
    ALONE,
    load::{self, Numbers},
    number, server,
};

const AT_A_TIME: usize = 64;

/// Returns the id of a call that the function does not refuse.
fn id(number: u64) -> u64 {
    number * REFUSED + 1
}

async fn counted(client: Client, number: u64) {
    let id = id(number);
    match count::call(&client, id, number % 9).await {
        Ok(answer) => assert_eq!(answer, id),
        Err(CallError::Failed(error)) => panic!("{error}"),
        Err(CallError::Rpc(error)) => {
            panic!("call {id} is lost: {error:#}; did it run? {:?}", error.ran())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_loses_no_call() {
    let _alone = ALONE.lock().await;
    let ledger = Ledger::new();
    let mut servers = [(); 3].map(|()| server(&["--ledger", ledger.path()]));
    let endpoints: Vec<_> = servers.iter().map(|server| server.endpoint().to_owned()).collect();
    let client = tests::client().connect(endpoints).await.unwrap();
    let (numbers, begin) = (Numbers::below(u64::MAX), Instant::now());
    let calling = client.clone();
    let work = load::calls(&numbers, AT_A_TIME, move |number| counted(calling.clone(), number));
    let rounds = number("RPC_ROUNDS", 3);
    let restarts = async {
        for _ in 0..rounds {
            for server in &mut servers {
                // Gives calls the time to be in flight at all servers.
                tokio::time::sleep(Duration::from_millis(300)).await;
                server.terminate();
                assert!(server.ended().await.success(), "it drains");
                server.restart();
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        numbers.end();
    };
    let (calls, ()) = futures_util::future::join(work, restarts).await;
    println!(
        "{} restarts in {:.1?} under load: {} calls, all answered",
        3 * rounds,
        begin.elapsed(),
        calls.len()
    );

    for server in &mut servers {
        server.terminate();
        assert!(server.ended().await.success());
    }
    let executions = ledger.executions();
    assert_eq!(executions.len(), calls.len());
    for (id, times) in executions {
        assert_eq!(times, 1, "call {id} ran {times} times");
    }
}
