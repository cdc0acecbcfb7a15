//! Servers behind relays, and the faults that the tests inject: the faults of a year within a
//! minute.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures_util::future::join_all;
use tests::{
    ledger::Ledger,
    process::ServerProcess,
    relay::{Cut, Mode, Relay},
};
use tokio::{sync::Notify, time};

use crate::{number, server};

/// A fault of a server, or of the network path to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The server is killed, and started again after a while.
    Killed,
    /// The server process is stopped for a while, with its connections open.
    Stopped,
    /// The server is told to drain, ends, and is started again.
    Restarted,
    /// The connections are closed.
    Closed,
    /// The connections are reset.
    Reset,
    /// The relay forwards nothing for a while, and everything afterwards.
    Frozen,
    /// All bytes to and from the server are lost for a while. Then the connections are reset.
    Unreachable,
    /// All bytes are lost for a while, as with `Unreachable`, but the connections are never reset.
    /// A client without a keepalive timeout would wait forever.
    Unresponsive,
    /// All bytes are delayed for a while.
    Slow,
}

impl Fault {
    /// All faults.
    pub(crate) const ALL: [Self; 9] = [
        Self::Killed,
        Self::Stopped,
        Self::Restarted,
        Self::Closed,
        Self::Reset,
        Self::Frozen,
        Self::Unreachable,
        Self::Unresponsive,
        Self::Slow,
    ];

    /// The faults that a client survives if it relies on the transport to report a lost connection.
    pub(crate) const TOLD: [Self; 8] = [
        Self::Killed,
        Self::Stopped,
        Self::Restarted,
        Self::Closed,
        Self::Reset,
        Self::Frozen,
        Self::Unreachable,
        Self::Slow,
    ];
}

/// Several servers that write to one ledger, each behind a relay.
pub(crate) struct Fleet {
    members: Vec<Member>,
    ledger: Ledger,
    seed: u64,
}

struct Member {
    server: ServerProcess,
    relay: Relay,
}

/// The number of times that each fault occurred.
#[derive(Default)]
pub(crate) struct Faults(RefCell<BTreeMap<Fault, u32>>);

impl Faults {
    pub(crate) fn count(&self) -> u32 {
        self.0.borrow().values().sum()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} faults {:?}", self.count(), self.0.borrow())
    }
}

impl Fleet {
    /// Starts `count` servers. `RPC_SEED` determines the faults that will be injected.
    pub(crate) async fn start(count: usize) -> Self {
        let ledger = Ledger::new();
        let seed = number("RPC_SEED", u64::from(std::process::id()));
        println!("RPC_SEED={seed}");
        let mut members = Vec::new();
        for _ in 0..count {
            let server = server(&["--ledger", ledger.path()]);
            let relay = Relay::start(server.address()).await;
            members.push(Member { server, relay });
        }
        Self { members, ledger, seed }
    }

    /// Returns the endpoints at which clients reach the servers.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.relay.endpoint()).collect()
    }

    /// Injects faults at each server, one after another, until `work` is done. Afterwards all
    /// servers and relays work normally.
    pub(crate) async fn run_with_faults<T>(
        &mut self,
        faults: &[Fault],
        work: impl Future<Output = T>,
    ) -> (T, Faults) {
        let (over, tally) = (Over::default(), Faults::default());
        let injecting =
            self.members.iter_mut().zip(self.seed..).map(|(member, seed)| {
                member.inject_all(faults, Rng::with_seed(seed), &over, &tally)
            });
        let work = async {
            let result = work.await;
            over.set();
            result
        };
        let (result, _) = futures_util::future::join(work, join_all(injecting)).await;
        (result, tally)
    }

    /// Shuts the servers down in order, so that nothing runs any more, and returns their ledger.
    pub(crate) async fn end(mut self) -> Ledger {
        for member in &mut self.members {
            member.server.terminate();
            assert!(member.server.ended().await.success());
        }
        self.ledger
    }
}

impl Member {
    async fn inject_all(&mut self, faults: &[Fault], mut random: Rng, over: &Over, tally: &Faults) {
        while !over.comes_within(Duration::from_millis(random.u64(100..600))).await {
            let fault = faults[random.usize(..faults.len())];
            *tally.0.borrow_mut().entry(fault).or_default() += 1;
            let a_while = Duration::from_millis(random.u64(50..1_200));
            self.inject(fault, a_while, &mut random).await;
        }
    }

    async fn inject(&mut self, fault: Fault, a_while: Duration, random: &mut Rng) {
        match fault {
            Fault::Killed => {
                self.server.kill();
                time::sleep(a_while).await;
                self.server.restart();
            }
            Fault::Stopped => {
                self.server.stop();
                time::sleep(a_while).await;
                self.server.resume();
            }
            Fault::Restarted => {
                self.server.terminate();
                let begin = Instant::now();
                assert!(
                    self.server.ended().await.success(),
                    "it drains within {:?}",
                    begin.elapsed()
                );
                self.server.restart();
            }
            Fault::Closed => self.relay.cut(Cut::Close),
            Fault::Reset => self.relay.cut(Cut::Reset),
            Fault::Frozen => self.change(Mode::Freeze, a_while).await,
            Fault::Unreachable => {
                self.change(Mode::BlackHole, a_while).await;
                self.relay.cut(Cut::Reset);
            }
            Fault::Unresponsive => self.change(Mode::BlackHole, a_while).await,
            Fault::Slow => {
                self.change(Mode::Delay(Duration::from_millis(random.u64(1..50))), a_while).await;
            }
        }
    }

    async fn change(&self, mode: Mode, a_while: Duration) {
        self.relay.set_both(mode);
        time::sleep(a_while).await;
        self.relay.set_both(Mode::Pass);
    }
}

/// A flag that is set when the work is done.
#[derive(Default)]
struct Over {
    is: Cell<bool>,
    changed: Arc<Notify>,
}

impl Over {
    fn set(&self) {
        self.is.set(true);
        self.changed.notify_waiters();
    }

    /// Waits for `pause` or until the work is done. Returns true if the work is done.
    async fn comes_within(&self, pause: Duration) -> bool {
        let changed = self.changed.notified();
        self.is.get() || time::timeout(pause, changed).await.is_ok()
    }
}
