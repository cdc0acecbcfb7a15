//! The cost of each stage of a call, in instructions and in time. Instruction counts hardly change
//! from run to run, times do.
//!
//! The stages do not add up to the cost of a call: some stages overlap, and the work between
//! stages, such as waking tasks, belongs to none.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::ValueEnum;
use rpc_core::__bench::{Stages, encode_request};

use crate::{Failure, contestant::Threads, contestants::rpc::echo_pool, results::median, valgrind};

/// A stage of a call. The variants are in the order in which a call passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    EncodeRequest,
    InFlightOnClient,
    DecodeHead,
    LookUp,
    Admit,
    InFlightOnServer,
    Dispatch,
    EncodeReply,
}

/// The number of rounds. Medians are taken over them.
const ROUNDS: usize = 21;
/// The minimum duration of a turn. It is long compared with reading the clock.
const TURN: Duration = Duration::from_millis(5);

impl Stage {
    /// Returns the name of the stage on the command line.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    async fn repeat(self, stages: &mut Stages, count: u32) {
        let data = Bytes::from_static(&[7; 64]);
        match self {
            Self::EncodeRequest => {
                repeat_here(count, || encode_request(echo_pool::args(data.clone())));
            }
            Self::InFlightOnClient => repeat_here(count, || stages.in_flight_on_client()),
            Self::DecodeHead => repeat_here(count, || stages.decode_head()),
            Self::LookUp => repeat_here(count, || stages.look_up()),
            Self::Admit => repeat_here(count, || stages.admit()),
            Self::InFlightOnServer => repeat_here(count, || stages.in_flight_on_server()),
            Self::Dispatch => {
                for _ in 0..count {
                    stages.dispatch().await;
                }
            }
            Self::EncodeReply => repeat_here(count, || stages.encode_reply(&data)),
        }
    }
}

fn repeat_here<T>(count: u32, mut stage: impl FnMut() -> T) {
    for _ in 0..count {
        black_box(stage());
    }
}

/// Prints the table of instructions and times.
pub(crate) fn report() -> Result<(), Failure> {
    let times = times()?;
    println!("| stage | instructions | ns |\n|---|---|---|");
    for (stage, nanoseconds) in times {
        let name = stage.name();
        println!("| {name} | {} | {nanoseconds:.1} |", valgrind::each(&["stage", &name])?);
    }
    Ok(())
}

/// Repeats a stage `count` times. This is the part that runs under valgrind.
pub(crate) fn repeat(stage: Stage, count: u32) -> Result<(), Failure> {
    valgrind::stay_on_one_processor()?;
    Threads::One.runtime()?.block_on(async {
        stage.repeat(&mut stages()?, count).await;
        Ok(())
    })
}

fn stages() -> Result<Stages, Failure> {
    Ok(Stages::new(echo_pool::args(Bytes::from_static(&[7; 64])))?)
}

/// Returns the time of each stage in nanoseconds, measured on a runtime like that of a server's I/O
/// thread. In every round each stage has one turn, so that a disturbance of the machine affects all
/// stages alike.
fn times() -> Result<Vec<(Stage, f64)>, Failure> {
    Threads::One.runtime()?.block_on(async {
        let mut stages = stages()?;
        let mut turns = Vec::new();
        for stage in Stage::value_variants() {
            turns.push((*stage, long_enough(*stage, &mut stages).await, Vec::new()));
        }
        for _ in 0..ROUNDS {
            for (stage, count, times) in &mut turns {
                let took = time(*stage, *count, &mut stages).await;
                times.push(took.as_secs_f64() * 1e9 / f64::from(*count));
            }
        }
        Ok(turns.into_iter().map(|(stage, _, times)| (stage, median(times))).collect())
    })
}

async fn time(stage: Stage, count: u32, stages: &mut Stages) -> Duration {
    let start = Instant::now();
    stage.repeat(stages, count).await;
    start.elapsed()
}

/// Returns the number of repetitions that fill a turn.
async fn long_enough(stage: Stage, stages: &mut Stages) -> u32 {
    let mut count = 1;
    while time(stage, count, stages).await < TURN {
        count *= 2;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_can_be_repeated() {
        for stage in Stage::value_variants() {
            repeat(*stage, 10).unwrap();
        }
    }
}
