//! The measurement of a work: starts the processes of all contestants, and gives each contestant a
//! turn in every round.

use std::time::Duration;

use crate::{
    Extent, Failure,
    contestant::{Contestant, Kind},
    contestants::python,
    process::Process,
    results::{Measured, Results, Round, Used},
    usage, words,
    work::Work,
};

/// The server process and the client process of a contestant, connected to each other.
struct Pair {
    server: Process,
    client: Process,
    measured: Measured,
}

/// Measures all chosen contestants at one work.
pub(crate) fn run(
    work: Work,
    extent: Extent,
    chosen: impl Fn(&str) -> bool,
    results: &mut Results,
) -> Result<(), Failure> {
    let mut pairs = Vec::new();
    for contestant in Contestant::all() {
        let name = format!("{}/{}", work.name(), contestant.name());
        if !chosen(&name) {
            continue;
        }
        if !contestant.takes_part_in(work) {
            continue;
        }
        if let Some(missing) = contestant.lacks() {
            eprintln!("{name}: skipped, without {missing}");
        } else {
            pairs.push(Pair::start(contestant, work).map_err(|error| format!("{name}: {error}"))?);
        }
    }
    if !pairs.is_empty() {
        eprintln!("{}: {} contestants, {} rounds", work.name(), pairs.len(), extent.rounds);
    }
    // The first turn of each contestant warms up caches and allocators, and is not counted.
    for round in 0..=extent.rounds {
        for pair in &mut pairs {
            pair.turn(extent.turn, round > 0)?;
        }
    }
    for pair in pairs {
        results.measured.push(pair.end()?);
    }
    Ok(())
}

impl Pair {
    fn start(contestant: Contestant, work: Work) -> Result<Self, Failure> {
        let name = contestant.name();
        let python = matches!(contestant.kind, Kind::Python | Kind::Pika);
        let mut server = if python {
            python::server(contestant.kind)?
        } else {
            Process::own(&["serve", &name])?
        };
        let endpoint = server.read_line()?;
        let server_at_first = usage::memory(server.pid())?;
        let mut client = if python {
            python::client(contestant.kind, work, &endpoint)?
        } else {
            Process::own(&["drive", &name, &work.name(), &endpoint])?
        };
        // The client prints "connected" before its first turn.
        client.read_line()?;
        let rounds = Vec::new();
        let measured =
            Measured { work, contestant, rounds, server_at_first, server_peak: 0, client_peak: 0 };
        Ok(Self { server, client, measured })
    }

    fn turn(&mut self, time: Duration, counts: bool) -> Result<(), Failure> {
        let before = (used(&self.client)?, used(&self.server)?);
        let turn = self.client.ask(&time.as_secs_f64().to_string())?;
        let after = (used(&self.client)?, used(&self.server)?);
        if counts {
            self.measured.rounds.push(Round {
                turn: serde_json::from_str(&turn)?,
                client: after.0 - before.0,
                server: after.1 - before.1,
            });
        }
        Ok(())
    }

    fn end(mut self) -> Result<Measured, Failure> {
        self.measured.server_peak = usage::peak_memory(self.server.pid())?;
        self.measured.client_peak = usage::peak_memory(self.client.pid())?;
        Ok(self.measured)
    }
}

/// Returns the CPU time that a process has used so far.
fn used(process: &Process) -> Result<Used, Failure> {
    Ok(Used { cpu: usage::cpu_time(process.pid())?, kernel: usage::kernel_time(process.pid())? })
}

/// Measures the counting of a long text, in one child process.
pub(crate) fn run_words(extent: Extent, results: &mut Results) -> Result<(), Failure> {
    eprintln!("{}: {} rounds", words::NAME, extent.rounds);
    let mut process = Process::own(&["words"])?;
    for round in 0..=extent.rounds {
        let measured = serde_json::from_str(&process.ask("")?)?;
        if round > 0 {
            results.words.push(measured);
        }
    }
    Ok(())
}
