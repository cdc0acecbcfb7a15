//! Servers that are killed, stopped, restarted and disconnected while calls are in flight. Under
//! every fault, a call reports correctly whether its function ran.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    time::{Duration, Instant},
};

use rpc_core::{Call, CallError, Client, ErrorKind, Ran, RemoteFn};
use tests::{
    served::{REFUSED, count, count_on_worker, double_later},
    soon,
};

use crate::{
    ALONE,
    fleet::{Fault, Fleet},
    load::{self, Numbers},
    number,
};

/// The number of calls in flight.
pub(crate) const AT_A_TIME: usize = 64;

/// Returns the duration of the call with this number, in milliseconds. The durations are long
/// enough that many calls are in flight when a fault occurs.
pub(crate) fn duration(id: u64) -> u64 {
    id % 9
}

/// The outcome that a call of [`count()`] reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Ok,
    /// The function returned its own error.
    Failed,
    Error(Ran, ErrorKind),
}

impl Said {
    pub(crate) fn of(id: u64, outcome: Result<u64, CallError<String>>) -> (u64, Self) {
        let said = match outcome {
            Ok(answer) => {
                assert_eq!(answer, id);
                Self::Ok
            }
            Err(CallError::Failed(error)) => {
                assert_eq!(error, format!("{id} is refused"));
                Self::Failed
            }
            Err(CallError::Rpc(error)) => Self::Error(error.ran(), error.kind()),
        };
        assert!(said != Self::Ok || !id.is_multiple_of(REFUSED));
        (id, said)
    }

    /// Returns true if a call with this outcome may have been executed this many times.
    fn allows(self, executions: u32) -> bool {
        match self {
            Self::Ok | Self::Failed | Self::Error(Ran::Yes, _) => executions == 1,
            Self::Error(Ran::No, _) => executions == 0,
            Self::Error(Ran::Maybe, _) => executions <= 1,
        }
    }
}

/// Compares the reported outcomes with the executions in the ledger, and prints how often each
/// outcome occurred.
pub(crate) fn compare(what: &str, said: &[(u64, Said)], executions: &HashMap<u64, u32>) {
    let mut tally = BTreeMap::<_, (u32, u32)>::new();
    for (id, said) in said {
        let times = executions.get(id).copied().unwrap_or_default();
        assert!(said.allows(times), "call {id} said {said:?}, and was executed {times} times");
        let (calls, executed) = tally.entry(format!("{said:?}")).or_default();
        *calls += 1;
        *executed += times;
    }
    let mut text = String::new();
    for (said, (calls, executed)) in tally {
        write!(text, "\n    {said}: {calls}, of which {executed} were executed")
            .expect("a String takes any text");
    }
    println!("{what}: what {} calls said is true:{text}", said.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_one_server_report_ran_correctly() {
    let _alone = ALONE.lock().await;
    let mut fleet = Fleet::start(1).await;
    let builder =
        tests::client().connect_timeout(Duration::from_secs(60)).timeout(Duration::from_secs(2));
    let client = builder.connect(&fleet.endpoints()[0]).await.unwrap();
    let (begin, numbers) = (Instant::now(), Numbers::below(number("RPC_CALLS", 30_000)));
    let calling = client.clone();
    let work = load::calls(&numbers, AT_A_TIME, move |id| {
        let client = calling.clone();
        async move { Said::of(id, count::call(&client, id, duration(id)).await) }
    });
    let (said, faults) = fleet.run_with_faults(&Fault::TOLD, work).await;
    println!("one server, {:.1?}, {faults}", begin.elapsed());
    // All faults are over: the server and the client work again.
    soon("the client connects again", async {
        while double_later::call(&client, 21, 0).await.ok() != Some(42) {}
    })
    .await;
    let ledger = fleet.end().await;
    compare("one server", &said, &ledger.executions());
    assert!(said.iter().any(|(_, said)| *said == Said::Ok) && faults.count() > 0);
}

/// Makes calls with short deadlines while no other fault occurs. Many of the calls have no time to
/// end, and some have no time to begin.
async fn tight<F>(
    what: &str,
    calls: u64,
    call: impl Fn(&Client, u64) -> Call<F> + Clone + Send + 'static,
) where
    F: RemoteFn<Output = u64, Error = CallError<String>>,
{
    let fleet = Fleet::start(1).await;
    let client = tests::client().connect(fleet.endpoints()).await.unwrap();
    let begin = Instant::now();
    let said = load::calls(&Numbers::below(calls), AT_A_TIME, move |id| {
        let call = call(&client, id);
        async move { Said::of(id, call.await) }
    })
    .await;
    println!("{what} with tight deadlines, {:.1?}", begin.elapsed());
    let ledger = fleet.end().await;
    compare(what, &said, &ledger.executions());
    let expired =
        |ran| move |(_, said): &(u64, Said)| *said == Said::Error(ran, ErrorKind::DeadlineExceeded);
    assert!(said.iter().any(|(_, said)| *said == Said::Ok));
    assert!(said.iter().any(expired(Ran::Yes)) || said.iter().any(expired(Ran::Maybe)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_with_short_deadlines_report_correctly() {
    let _alone = ALONE.lock().await;
    tight("async functions", 30_000, |client, id| {
        count::call(client, id, duration(id)).timeout(Duration::from_millis(1 + id % 13))
    })
    .await;
    // These calls wait for two workers about as long as their deadlines allow.
    tight("workers", 4_000, |client, id| {
        count_on_worker::call(client, id, duration(id)).timeout(Duration::from_millis(1 + id % 199))
    })
    .await;
}
