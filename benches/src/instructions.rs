//! The instruction count of one call, in the client and the server together, and the check against
//! its budget.
//!
//! The calls go over inproc, so that the count covers this library rather than the engine and the
//! kernel.

use bytes::Bytes;
use rpc_core::{Client, Server};

use crate::{
    Failure,
    budget::{BUDGETS, COMPILER, Verdict},
    contestant::Threads,
    contestants::rpc::{echo_inline, echo_pool},
    report::compiler,
    valgrind,
};

/// The number of counts, of which the least is judged. A thread that goes to sleep where it did not
/// in another run adds to the count, and takes nothing from it.
const COUNTS: usize = 3;

/// Prints the instruction counts. Fails if one of them exceeds its budget.
pub(crate) fn report() -> Result<(), Failure> {
    let mut above = Vec::new();
    println!("| one echo of 64 B over inproc | instructions | at most |\n|---|---|---|");
    for budget in BUDGETS {
        let mut instructions = u64::MAX;
        for _ in 0..COUNTS {
            instructions = instructions.min(valgrind::each(&["calls", budget.execution])?);
        }
        println!("| {} | {instructions} | {} |", budget.execution, budget.limit());
        match budget.judge(instructions) {
            Verdict::Above => above.push(budget.execution),
            Verdict::Within => {}
            Verdict::FarBelow => {
                eprintln!(
                    "{}: far below its budget, which can be lowered in benches/src/budget.rs",
                    budget.execution
                );
            }
        }
    }
    if above.is_empty() {
        return Ok(());
    }
    Err(format!(
        "a call takes more instructions than its budget allows: {}. `--stages` shows which stage has become dearer. If \
         it is worth it, or the compiler has changed ({COMPILER} then, {} now), put the new figure into \
         benches/src/budget.rs",
        above.join(", "),
        compiler(),
    )
    .into())
}

/// Makes `count` calls, one after the other. This is the part that runs under valgrind.
pub(crate) fn make_calls(execution: &str, count: u32) -> Result<(), Failure> {
    valgrind::stay_on_one_processor()?;
    Threads::One.runtime()?.block_on(async {
        let server = Server::builder().workers(1).bind("inproc://calls").await?.spawn()?;
        let client = Client::builder().use_current_runtime().connect(server.endpoint()).await?;
        let data = Bytes::from_static(&[7; 64]);
        for _ in 0..count {
            let echoed = match execution {
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
