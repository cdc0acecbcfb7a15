//! The contestants: the ways to make a call that the benchmarks compare.

use std::io;

use rpc_core::Engine;
use tokio::runtime::{Builder, Runtime};

use crate::{
    Failure,
    contestants::{broker, python},
    work::{Function, KIB, MIB, Work},
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
    Rpc(Execution, Carrier),
    /// tarpc: TCP and bincode. Functions run on the server's runtime.
    Tarpc,
    /// tonic: HTTP/2 and Protocol Buffers. Functions run on the server's runtime.
    Tonic,
    /// The bytes of a stream over bare TCP.
    Copy,
    /// The default engine with hand-written MessagePack, and no framework on top.
    Floor,
    /// REQ and REP sockets with pickle.
    Python,
    /// lapin and hand-written MessagePack, with the guarantees of `amqp://`, and no framework on top.
    Lapin,
    /// The RPC program of pika's tutorial.
    Pika,
}

/// The way between a client and a server of this library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Tcp(Engine),
    /// The engine `omq` with encryption.
    Curve,
    Ipc,
    /// Memory: the server runs in the client's process.
    Inproc,
    /// A RabbitMQ broker.
    Amqp,
    /// A RabbitMQ broker, with up to 64 requests in a message.
    AmqpPacked,
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
        Self { kind: Kind::Rpc(execution, Carrier::Tcp(Engine::Zeromq)), threads }
    }

    pub(crate) const fn over(carrier: Carrier) -> Self {
        Self { kind: Kind::Rpc(Execution::Inline, carrier), threads: Threads::Two }
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
                let kind = Kind::Rpc(execution, Carrier::Tcp(engine));
                all.extend([Threads::Two, Threads::One].map(|threads| Self { kind, threads }));
            }
        }
        for kind in [Kind::Tarpc, Kind::Tonic, Kind::Floor] {
            all.extend([Threads::Two, Threads::One].map(|threads| Self { kind, threads }));
        }
        all.push(Self { kind: Kind::Copy, threads: Threads::Two });
        all.push(Self { kind: Kind::Python, threads: Threads::One });
        for carrier in
            [Carrier::Curve, Carrier::Ipc, Carrier::Inproc, Carrier::Amqp, Carrier::AmqpPacked]
        {
            all.push(Self::over(carrier));
        }
        for kind in [Kind::Lapin, Kind::Pika] {
            all.push(Self { kind, threads: Threads::One });
        }
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
            Kind::Copy => "copy",
            Kind::Floor => "floor",
            Kind::Python => "python",
            Kind::Lapin => "lapin",
            Kind::Pika => "pika",
        }
        .to_owned();
        if self.threads == Threads::One
            && !matches!(self.kind, Kind::Python | Kind::Lapin | Kind::Pika)
        {
            name.push_str("-ct");
        }
        if let Kind::Rpc(_, carrier) = self.kind {
            name.push_str(match carrier {
                Carrier::Tcp(Engine::Omq) => "-omq",
                Carrier::Tcp(_) => "",
                Carrier::Curve => "-curve",
                Carrier::Ipc => "-ipc",
                Carrier::Inproc => "-inproc",
                Carrier::Amqp => "-amqp",
                Carrier::AmqpPacked => "-amqp-packed",
            });
        }
        name
    }

    /// Returns what is missing for the contestant to take part.
    pub(crate) fn lacks(self) -> Option<&'static str> {
        let has_python = python::interpreter().is_some();
        let has_broker = broker::broker().is_some();
        match self.kind {
            Kind::Python | Kind::Pika if !has_python => Some("the variable BENCH_PYTHON"),
            Kind::Rpc(_, Carrier::Curve) if !cfg!(feature = "curve") => Some("the feature `curve`"),
            Kind::Rpc(_, Carrier::Amqp | Carrier::AmqpPacked) | Kind::Lapin
                if !cfg!(feature = "amqp") =>
            {
                Some("the feature `amqp`")
            }
            Kind::Rpc(_, Carrier::Amqp | Carrier::AmqpPacked) | Kind::Lapin | Kind::Pika
                if !has_broker =>
            {
                Some("the variable BENCH_BROKER")
            }
            _ => None,
        }
    }

    /// Returns true if the contestant is measured at this work. Combinations are left out that
    /// would show nothing new, or only a limit of the contestant itself.
    pub(crate) fn takes_part_in(self, work: Work) -> bool {
        if let Function::Items(bytes) = work.function {
            return match self.kind {
                Kind::Rpc(Execution::Blocking | Execution::Async, Carrier::Tcp(_))
                | Kind::Tonic => true,
                Kind::Copy => bytes == 64 * KIB,
                _ => false,
            };
        }
        match self.kind {
            Kind::Copy => false,
            // A REQ socket has one call in flight, so each call in flight needs a thread. Python's
            // threads run one at a time.
            Kind::Python => {
                let small = work.function != Function::Echo(MIB);
                small && work.clients == 1 && work.window <= 64
            }
            // The client of the tutorial makes one call after the other, whatever the window is.
            Kind::Rpc(_, Carrier::Amqp | Carrier::AmqpPacked) | Kind::Lapin | Kind::Pika => {
                work.function != Function::Echo(MIB) && work.clients == 1
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
