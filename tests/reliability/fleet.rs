//! Servers behind relays, and the faults that befall them: what happens in a year, in a minute.

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

/// What befalls a server, or the way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// It is killed, and started again after a while.
    Killed,
    /// It stands still for a while, its connections open.
    Stopped,
    /// It drains and ends as it is told to, and is started again.
    Restarted,
    /// Its connections are closed.
    Closed,
    /// Its connections are reset.
    Reset,
    /// Nothing is carried for a while, and everything afterwards.
    Frozen,
    /// What is sent to it and by it is lost for a while, and its connections are reset then.
    Unreachable,
    /// As before, but its connections are never reset: who does not notice the silence waits for
    /// ever.
    Silent,
    /// Everything takes longer for a while.
    Slow,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Killed,
        Self::Stopped,
        Self::Restarted,
        Self::Closed,
        Self::Reset,
        Self::Frozen,
        Self::Unreachable,
        Self::Silent,
        Self::Slow,
    ];

    /// Those that a client survives which waits for the transport to tell it that a connection is
    /// lost.
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

/// Some servers that write into one ledger, each behind a relay.
pub(crate) struct Fleet {
    members: Vec<Member>,
    ledger: Ledger,
    seed: u64,
}

struct Member {
    server: ServerProcess,
    relay: Relay,
}

/// How often each fault happened.
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
    /// Starts `count` servers. What will befall them follows from `RPC_SEED`.
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

    /// Where clients reach them.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.relay.endpoint()).collect()
    }

    /// Lets faults befall each server, one after another, until `work` is done. Everything is well
    /// afterwards.
    pub(crate) async fn suffer<T>(
        &mut self,
        faults: &[Fault],
        work: impl Future<Output = T>,
    ) -> (T, Faults) {
        let (over, tally) = (Over::default(), Faults::default());
        let suffering = self
            .members
            .iter_mut()
            .zip(self.seed..)
            .map(|(member, seed)| member.suffer(faults, Rng::with_seed(seed), &over, &tally));
        let work = async {
            let result = work.await;
            over.set();
            result
        };
        let (result, _) = futures_util::future::join(work, join_all(suffering)).await;
        (result, tally)
    }

    /// Ends the servers in order, so that nothing runs any more, and gives their ledger.
    pub(crate) async fn end(mut self) -> Ledger {
        for member in &mut self.members {
            member.server.terminate();
            assert!(member.server.ended().await.success());
        }
        self.ledger
    }
}

impl Member {
    async fn suffer(&mut self, faults: &[Fault], mut random: Rng, over: &Over, tally: &Faults) {
        while !over.comes_within(Duration::from_millis(random.u64(100..600))).await {
            let fault = faults[random.usize(..faults.len())];
            *tally.0.borrow_mut().entry(fault).or_default() += 1;
            let a_while = Duration::from_millis(random.u64(50..1_200));
            self.befall(fault, a_while, &mut random).await;
        }
    }

    async fn befall(&mut self, fault: Fault, a_while: Duration, random: &mut Rng) {
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
            Fault::Silent => self.change(Mode::BlackHole, a_while).await,
            Fault::Slow => {
                self.change(Mode::Delay(Duration::from_millis(random.u64(1..50))), a_while).await
            }
        }
    }

    async fn change(&self, mode: Mode, a_while: Duration) {
        self.relay.set_both(mode);
        time::sleep(a_while).await;
        self.relay.set_both(Mode::Pass);
    }
}

/// Whether the work is done.
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

    /// Waits for as long, or until it is over.
    async fn comes_within(&self, pause: Duration) -> bool {
        let changed = self.changed.notified();
        self.is.get() || time::timeout(pause, changed).await.is_ok()
    }
}
