//! The server and the client of each contestant. All contestants do the same work.

pub(crate) mod broker;
pub(crate) mod copy;
#[cfg(feature = "curve")]
mod curve;
pub(crate) mod floor;
#[cfg(feature = "amqp")]
pub(crate) mod lapin;
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

#[cfg(not(feature = "amqp"))]
const NO_AMQP: &str = "it is built without the feature `amqp`";

/// Serves until stdin ends. Stdin ends when the parent process does, so that no server outlives its
/// benchmark.
pub(crate) fn serve(contestant: Contestant) -> Result<(), Failure> {
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        process::exit(0);
    });
    let threads = if contestant.kind == Kind::Floor { contestant.threads } else { Threads::Two };
    let runtime = threads.runtime()?;
    match contestant.kind {
        Kind::Rpc(_, carrier) => runtime.block_on(rpc::serve(carrier)),
        #[cfg(feature = "amqp")]
        Kind::Lapin => runtime.block_on(lapin::serve()),
        #[cfg(not(feature = "amqp"))]
        Kind::Lapin => Err(NO_AMQP.into()),
        Kind::Tarpc => runtime.block_on(tarpc::serve()),
        Kind::Tonic => runtime.block_on(tonic::serve()),
        Kind::Copy => runtime.block_on(async { tokio::spawn(copy::serve()).await? }),
        // A spawned task runs on a worker thread if the runtime has any. The main thread is not a
        // worker: serving there would add a hop between threads.
        Kind::Floor => runtime.block_on(async { tokio::spawn(floor::serve()).await? }),
        Kind::Python | Kind::Pika => Err("its server is a program of its own".into()),
    }
}

/// Prints the endpoint of the server, for the parent process.
fn print_endpoint(endpoint: impl Display) -> io::Result<()> {
    println!("{endpoint}");
    io::stdout().flush()
}

/// Opens as many connections as the work has clients, and makes calls as the lines of stdin
/// instruct.
pub(crate) fn drive(contestant: Contestant, work: Work, endpoint: &str) -> Result<(), Failure> {
    let Contestant { kind, threads } = contestant;
    let runtime = threads.runtime()?;
    match kind {
        Kind::Rpc(execution, carrier) => runtime.block_on(drive_all(work, async || {
            rpc::connect(execution, carrier, threads, endpoint).await.map(Tasks)
        })),
        Kind::Tarpc => {
            runtime.block_on(drive_all(work, async || tarpc::connect(endpoint).await.map(Tasks)))
        }
        Kind::Tonic => {
            runtime.block_on(drive_all(work, async || tonic::connect(endpoint).await.map(Tasks)))
        }
        Kind::Copy => {
            let caller = copy::CopyCaller(endpoint.into());
            runtime.block_on(drive_all(work, async || Ok(Tasks(caller.clone()))))
        }
        Kind::Floor => {
            runtime.block_on(drive_all(work, async || floor::Connection::open(endpoint).await))
        }
        #[cfg(feature = "amqp")]
        Kind::Lapin => {
            runtime.block_on(drive_all(work, async || lapin::Connection::open(endpoint).await))
        }
        #[cfg(not(feature = "amqp"))]
        Kind::Lapin => Err(NO_AMQP.into()),
        Kind::Python | Kind::Pika => Err("its client is a program of its own".into()),
    }
}
