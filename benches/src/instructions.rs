//! How many instructions one call takes, in the client and in the server together: over inproc, so that it is what
//! this library does and not what the engine and the kernel do. A neighbour on the machine changes nothing of it.

use std::{env, process::Command};

use bytes::Bytes;
use rpc_core::{Client, Server};

use crate::{
    Failure,
    contestant::Threads,
    contestants::rpc::{echo_inline, echo_pool},
};

/// Starting and stopping is in both, and falls out of the difference.
const FEW: u32 = 1_000;
const MANY: u32 = 6_000;

/// Runs this program under valgrind with few calls and with many.
pub(crate) fn report() -> Result<(), Failure> {
    println!("| one echo of 64 B over inproc | instructions |\n|---|---|");
    for place in ["inline", "pool"] {
        let per_call = (count(place, MANY)? - count(place, FEW)?) / u64::from(MANY - FEW);
        println!("| {place} | {per_call} |");
    }
    Ok(())
}

fn count(place: &str, calls: u32) -> Result<u64, Failure> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(env::current_exe()?);
    let output = valgrind.args(["calls", place, &calls.to_string()]).output();
    let output = output.map_err(|error| format!("valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    // "==123== Collected : 456"
    let collected = text.lines().find_map(|line| line.split_once("Collected :"));
    let (_, instructions) = collected.ok_or_else(|| format!("valgrind has counted nothing:\n{text}"))?;
    Ok(instructions.trim().parse()?)
}

/// What runs under valgrind: one call after the other.
pub(crate) fn make_calls(place: &str, count: u32) -> Result<(), Failure> {
    Threads::One.runtime()?.block_on(async {
        let server = Server::builder().workers(1).bind("inproc://calls").await?.spawn()?;
        let client = Client::builder().use_current_runtime().connect(server.endpoint()).await?;
        let data = Bytes::from_static(&[7; 64]);
        for _ in 0..count {
            let echoed = match place {
                "inline" => echo_inline::call(&client, data.clone()).await?,
                _ => echo_pool::call(&client, data.clone()).await?,
            };
            assert_eq!(echoed, data, "an echo is what was sent");
        }
        client.close().await;
        server.shutdown().await;
        Ok(())
    })
}
