//! Compares rpc-core with other ways to call a function in another process.
//!
//! ```sh
//! # All measurements, in about 25 minutes:
//! cargo run --release --manifest-path benches/Cargo.toml
//! # All measurements, with short turns:
//! cargo run --release --manifest-path benches/Cargo.toml -- --quick
//! # Some works or contestants:
//! cargo run --release --manifest-path benches/Cargo.toml -- --only echo-64B-1024/ --only long-text
//! # All measurements, and an update of docs/PERFORMANCE.md:
//! cargo run --release --manifest-path benches/Cargo.toml -- --write
//! # The instructions of one call, counted by valgrind:
//! cargo run --release --manifest-path benches/Cargo.toml -- --instructions
//! # The stages of a call, in instructions and time:
//! cargo run --release --manifest-path benches/Cargo.toml -- --stages
//! ```
//!
//! A *work* is a function to call, with a number of clients and of calls in flight. A *contestant*
//! is a way to make these calls. For each work, the program starts a server process and a client
//! process of every contestant. In each round, every contestant makes calls for a short time, its
//! *turn*: A B C, A B C. A disturbance of the machine that lasts longer than a round thus affects
//! all contestants alike.
//!
//! Both processes run this program in another role. The Python contestants take part if the variable
//! `BENCH_PYTHON` names an interpreter that has pyzmq (and pika), and those that use RabbitMQ if
//! it is built with `--features amqp`, and `BENCH_BROKER` names a broker:
//! `amqp://guest:guest@127.0.0.1:5672/%2f`. Each leaves a queue there.

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

/// The error of a failed measurement. After any failure the figures are worthless.
type Failure = Box<dyn Error + Send + Sync>;

/// Compares rpc-core with other ways to call a function in another process.
#[derive(Parser)]
#[allow(clippy::struct_excessive_bools)] // Each is a switch of the command line.
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    /// Measures three short rounds: enough to show that everything works, with rough figures.
    #[arg(long)]
    quick: bool,
    /// Measures only if the name, `work/contestant`, contains this text. Can be given several
    /// times.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// The number of rounds. The reported medians are taken over these rounds.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// The duration of each turn.
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
    /// Lists the names of the works and contestants, and measures nothing.
    #[arg(long)]
    list: bool,
}

/// The roles in which the program starts itself as a child process.
#[derive(Subcommand)]
#[command(hide = true)]
enum Role {
    /// Serves, prints its endpoint, and exits when stdin ends.
    Serve { contestant: String },
    /// Connects, and makes calls for as many seconds as each line of stdin says.
    Drive { contestant: String, work: String, endpoint: String },
    /// Counts the words of a long text by every method, once for each line of stdin.
    Words,
    /// Makes `count` calls over inproc to a function that runs inline or on a worker.
    Calls { execution: String, count: u32 },
    /// Repeats a stage of a call `count` times.
    Stage { stage: Stage, count: u32 },
}

/// The amount of measuring: the number of rounds, and the duration of a turn.
#[derive(Debug, Clone, Copy)]
struct Extent {
    rounds: usize,
    turn: Duration,
}

impl Options {
    fn extent(&self) -> Extent {
        // A second is long compared with the effects of the scheduler, and five rounds show the
        // spread.
        let (rounds, seconds) = if self.quick { (3, 0.05) } else { (5, 1.0) };
        Extent {
            rounds: self.rounds.unwrap_or(rounds).max(1),
            turn: Duration::from_secs_f64(self.seconds.unwrap_or(seconds).clamp(0.01, 60.0)),
        }
    }

    /// Returns true if the options select the measurement with this name.
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
        Some(Role::Calls { execution, count }) => instructions::make_calls(execution, *count),
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
