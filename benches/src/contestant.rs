//! The contestants: the ways to make a call that the benchmarks compare.

use std::io;

use rpc_core::Engine;
use tokio::runtime::{Builder, Runtime};

use crate::{
    Failure,
    contestants::python,
    work::{Function, MIB, Work},
};

/// A way to call a function in another process: a framework, and the threads of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contestant {
    pub(crate) kind: Kind,
    pub(crate) threads: Threads,
}

/// The framework of a contestant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This library.
    Rpc(Execution, Engine),
    /// tarpc: TCP and bincode. Functions run on the server's runtime.
    Tarpc,
    /// tonic: HTTP/2 and Protocol Buffers. Functions run on the server's runtime.
    Tonic,
    /// The default engine with hand-written MessagePack, and no framework on top.
    Floor,
    /// REQ and REP sockets with pickle.
    Python,
}

/// The way in which the server runs the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Execution {
    /// In the receive loop, where the call was decoded.
    Inline,
    /// On the worker pool.
    Blocking,
    /// As a task of the runtime.
    Async,
}

/// The runtime on which the callers run. The server's runtime has two workers, except for the
/// floor: its server has the same runtime as its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// A current-thread runtime that callers and connections share.
    One,
    /// A runtime with two workers. A client of this library runs its connections on the I/O thread
    /// in addition.
    Two,
}

impl Threads {
    pub(crate) fn runtime(self) -> io::Result<Runtime> {
        match self {
            Self::One => Builder::new_current_thread().enable_all().build(),
            Self::Two => Builder::new_multi_thread().worker_threads(2).enable_all().build(),
        }
    }
}

impl Contestant {
    pub(crate) const fn rpc(execution: Execution, threads: Threads) -> Self {
        Self { kind: Kind::Rpc(execution, Engine::Zeromq), threads }
    }

    pub(crate) const fn tarpc() -> Self {
        Self { kind: Kind::Tarpc, threads: Threads::Two }
    }

    pub(crate) const fn tonic() -> Self {
        Self { kind: Kind::Tonic, threads: Threads::Two }
    }

    pub(crate) const fn floor(threads: Threads) -> Self {
        Self { kind: Kind::Floor, threads }
    }

    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for engine in [Engine::Zeromq, Engine::Omq] {
            for execution in [Execution::Inline, Execution::Blocking, Execution::Async] {
                let kind = Kind::Rpc(execution, engine);
                all.extend([Threads::Two, Threads::One].map(|threads| Self { kind, threads }));
            }
        }
        for kind in [Kind::Tarpc, Kind::Tonic, Kind::Floor] {
            all.extend([Threads::Two, Threads::One].map(|threads| Self { kind, threads }));
        }
        all.push(Self { kind: Kind::Python, threads: Threads::One });
        all
    }

    pub(crate) fn named(name: &str) -> Result<Self, Failure> {
        let mut all = Self::all().into_iter();
        all.find(|contestant| contestant.name() == name)
            .ok_or_else(|| format!("no contestant {name}").into())
    }

    pub(crate) fn name(self) -> String {
        let mut name = match self.kind {
            Kind::Rpc(Execution::Inline, _) => "rpc-inline",
            Kind::Rpc(Execution::Blocking, _) => "rpc-pool",
            Kind::Rpc(Execution::Async, _) => "rpc-async",
            Kind::Tarpc => "tarpc",
            Kind::Tonic => "tonic",
            Kind::Floor => "floor",
            Kind::Python => "python",
        }
        .to_owned();
        if self.threads == Threads::One && self.kind != Kind::Python {
            name.push_str("-ct");
        }
        if matches!(self.kind, Kind::Rpc(_, Engine::Omq)) {
            name.push_str("-omq");
        }
        name
    }

    /// Returns true if the contestant is measured at this work. Combinations are left out that
    /// would show nothing new, or only a limit of the contestant itself.
    pub(crate) fn takes_part_in(self, work: Work) -> bool {
        match self.kind {
            // A REQ socket has one call in flight, so each call in flight needs a thread. Python's
            // threads run one at a time.
            Kind::Python => {
                let small = work.function != Function::Echo(MIB);
                python::interpreter().is_some() && small && work.clients == 1 && work.window <= 64
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contestant_is_found_by_its_name() {
        for contestant in Contestant::all() {
            assert_eq!(Contestant::named(&contestant.name()).unwrap(), contestant);
        }
    }
}
