//! Who takes part, and with what.

use std::io;

use rpc_core::Engine;
use tokio::runtime::{Builder, Runtime};

use crate::{
    Failure,
    contestants::python,
    work::{Function, MIB, Work},
};

/// A way to call a function in another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contestant {
    pub(crate) kind: Kind,
    pub(crate) threads: Threads,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This library.
    Rpc(Place, Engine),
    /// TCP and bincode, functions on the server's runtime.
    Tarpc,
    /// HTTP/2 and Protocol Buffers, functions on the server's runtime.
    Tonic,
    /// The default engine and MessagePack by hand, without anything that makes a framework.
    Floor,
    /// REQ, REP and pickle.
    Python,
}

/// Where the server runs the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Inline,
    Pool,
    Async,
}

/// The runtime that the callers are on. Servers have two workers, but for the floor's, which has
/// what its client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// A current-thread runtime, which connections share with callers.
    One,
    /// Two workers. Clients of this library have their connections on the I/O thread besides.
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
    pub(crate) const fn rpc(place: Place, threads: Threads) -> Self {
        Self { kind: Kind::Rpc(place, Engine::Zeromq), threads }
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
            for place in [Place::Inline, Place::Pool, Place::Async] {
                let kind = Kind::Rpc(place, engine);
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
            Kind::Rpc(Place::Inline, _) => "rpc-inline",
            Kind::Rpc(Place::Pool, _) => "rpc-pool",
            Kind::Rpc(Place::Async, _) => "rpc-async",
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

    /// Not where it would measure nothing new, or nothing but itself.
    pub(crate) fn takes_part_in(self, work: Work) -> bool {
        match self.kind {
            // A REQ socket has one call in flight, and threads of Python take turns.
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
