//! The contestants: a server and a client of each, which do the same work.

pub(crate) mod floor;
pub(crate) mod python;
pub(crate) mod rpc;
pub(crate) mod tarpc;
pub(crate) mod tonic;

use std::{
    fmt::Display,
    io::{self, Read as _, Write as _},
    process, thread,
};

use crate::{
    Failure,
    contestant::{Contestant, Kind, Threads},
    drive::{Tasks, drive as drive_all},
    work::Work,
};

/// Serves until stdin ends, which is when whoever started this process has gone.
pub(crate) fn serve(contestant: Contestant) -> Result<(), Failure> {
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        process::exit(0);
    });
    let threads = if contestant.kind == Kind::Floor { contestant.threads } else { Threads::Two };
    let runtime = threads.runtime()?;
    match contestant.kind {
        Kind::Rpc(_, engine) => runtime.block_on(rpc::serve(engine)),
        Kind::Tarpc => runtime.block_on(tarpc::serve()),
        Kind::Tonic => runtime.block_on(tonic::serve()),
        // On a worker, if there are any: the main thread is none, and would make it one hop more.
        Kind::Floor => runtime.block_on(async { tokio::spawn(floor::serve()).await? }),
        Kind::Python => Err("its server is a program of its own".into()),
    }
}

/// Says where the server listens, to whoever started this process.
fn announce(endpoint: impl Display) -> io::Result<()> {
    println!("{endpoint}");
    io::stdout().flush()
}

/// Connects as often as the work says, and makes calls as stdin says.
pub(crate) fn drive(contestant: Contestant, work: Work, endpoint: &str) -> Result<(), Failure> {
    let Contestant { kind, threads } = contestant;
    let runtime = threads.runtime()?;
    match kind {
        Kind::Rpc(place, engine) => runtime.block_on(drive_all(work, async || {
            rpc::connect(place, engine, threads, endpoint).await.map(Tasks)
        })),
        Kind::Tarpc => {
            runtime.block_on(drive_all(work, async || tarpc::connect(endpoint).await.map(Tasks)))
        }
        Kind::Tonic => {
            runtime.block_on(drive_all(work, async || tonic::connect(endpoint).await.map(Tasks)))
        }
        Kind::Floor => {
            runtime.block_on(drive_all(work, async || floor::Connection::open(endpoint).await))
        }
        Kind::Python => Err("its client is a program of its own".into()),
    }
}
