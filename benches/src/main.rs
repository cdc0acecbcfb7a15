//! Measures rpc-core beside other ways to call a function in another process.
//!
//! ```sh
//! cargo run --release --manifest-path benches/Cargo.toml                      # all of it: about 25 minutes
//! cargo run --release --manifest-path benches/Cargo.toml -- --quick           # the same, briefly
//! cargo run --release --manifest-path benches/Cargo.toml -- --only echo-64B-1024/ --only long-text
//! cargo run --release --manifest-path benches/Cargo.toml -- --write           # and updates docs/PERFORMANCE.md
//! cargo run --release --manifest-path benches/Cargo.toml -- --instructions    # of one call, counted by valgrind
//! cargo run --release --manifest-path benches/Cargo.toml -- --stages          # of a call: instructions and time
//! ```
//!
//! For each work it starts a server and a client process of every contestant, and then gives each
//! of them a turn, round after round: A B C, A B C. What the machine does to one in a minute, it
//! does to all. Both processes are this program again. The Python program takes part if
//! `BENCH_PYTHON` names an interpreter that has pyzmq.

mod budget;
mod chart;
mod contestant;
mod contestants;
mod document;
mod drive;
mod instructions;
mod process;
mod ratios;
mod report;
mod results;
mod run;
mod stages;
mod usage;
mod valgrind;
mod words;
mod work;

use std::{error::Error, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::{contestant::Contestant, results::Results, stages::Stage, work::Work};

/// What went wrong. Whatever it is, the figures are worth nothing then.
type Failure = Box<dyn Error + Send + Sync>;

/// Measures rpc-core beside other ways to call a function in another process.
#[derive(Parser)]
#[allow(clippy::struct_excessive_bools)] // They are switches of the command line.
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    /// Three short rounds: shows that everything works, and the figures roughly.
    #[arg(long)]
    quick: bool,
    /// Only what has this in its name, `work/contestant`. May be given several times.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// How many rounds; medians are of these.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// How long each turn lasts.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Writes the tables and the chart into `docs/`.
    #[arg(long)]
    write: bool,
    /// Counts the instructions of one call over inproc with valgrind, and measures nothing else.
    /// Fails if there are more than its budget allows.
    #[arg(long)]
    instructions: bool,
    /// Counts and times the stages of a call, and measures nothing else.
    #[arg(long)]
    stages: bool,
    /// Lists the works and contestants, and measures nothing.
    #[arg(long)]
    list: bool,
}

/// The processes that the program starts of itself.
#[derive(Subcommand)]
#[command(hide = true)]
enum Role {
    /// Serves, says where, and ends when stdin does.
    Serve { contestant: String },
    /// Connects, and makes calls for as long as each line of stdin says.
    Drive { contestant: String, work: String, endpoint: String },
    /// Counts the words of a long text by both ways, for each line of stdin.
    Words,
    /// Makes so many calls over inproc, inline or on a worker.
    Calls { place: String, count: u32 },
    /// Goes through a stage of a call so often.
    Stage { stage: Stage, count: u32 },
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Extent {
    rounds: usize,
    turn: Duration,
}

impl Options {
    fn extent(&self) -> Extent {
        // A second is long beside what the scheduler does, and five rounds show the spread.
        let (rounds, seconds) = if self.quick { (3, 0.05) } else { (5, 1.0) };
        Extent {
            rounds: self.rounds.unwrap_or(rounds).max(1),
            turn: Duration::from_secs_f64(self.seconds.unwrap_or(seconds).clamp(0.01, 60.0)),
        }
    }

    fn chosen(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.role {
        None => measure(&options),
        Some(Role::Serve { contestant }) => {
            Contestant::named(contestant).and_then(contestants::serve)
        }
        Some(Role::Drive { contestant, work, endpoint }) => drive_named(contestant, work, endpoint),
        Some(Role::Words) => words::run(),
        Some(Role::Calls { place, count }) => instructions::make_calls(place, *count),
        Some(Role::Stage { stage, count }) => stages::repeat(*stage, *count),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn drive_named(contestant: &str, work: &str, endpoint: &str) -> Result<(), Failure> {
    contestants::drive(Contestant::named(contestant)?, Work::named(work)?, endpoint)
}

fn measure(options: &Options) -> Result<(), Failure> {
    if options.list {
        for work in Work::all() {
            println!("{}/", work.name());
        }
        for contestant in Contestant::all() {
            println!("/{}", contestant.name());
        }
        println!("{}", words::NAME);
        return Ok(());
    }
    if options.instructions {
        return instructions::report();
    }
    if options.stages {
        return stages::report();
    }
    usage::allow_many_files()?;
    let extent = options.extent();
    let mut results = Results::default();
    for work in Work::all() {
        run::run(work, extent, |name| options.chosen(name), &mut results)?;
    }
    if options.chosen(words::NAME) {
        run::run_words(extent, &mut results)?;
    }
    if results.measured.is_empty() && results.words.is_empty() {
        return Err(
            "nothing that takes part has that in its name: --list tells the works and contestants"
                .into(),
        );
    }
    let report = report::report(&results, extent);
    println!("{report}");
    if options.write {
        document::write(&report, &results)?;
    }
    Ok(())
}
