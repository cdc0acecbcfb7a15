//! How many instructions one call takes, in the client and in the server together, and whether that
//! is within its budget: over inproc, so that it is what this library does and not what the engine
//! and the kernel do.

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

/// Counts, and fails if it is too many.
pub(crate) fn report() -> Result<(), Failure> {
    let mut above = Vec::new();
    println!("| one echo of 64 B over inproc | instructions | at most |\n|---|---|---|");
    for budget in BUDGETS {
        let instructions = valgrind::each(&["calls", budget.place])?;
        println!("| {} | {instructions} | {} |", budget.place, budget.limit());
        match budget.judge(instructions) {
            Verdict::Above => above.push(budget.place),
            Verdict::Within => {}
            Verdict::FarBelow => {
                eprintln!(
                    "{}: far below its budget, which can be lowered in benches/src/budget.rs",
                    budget.place
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

/// What runs under valgrind: one call after the other.
pub(crate) fn make_calls(place: &str, count: u32) -> Result<(), Failure> {
    valgrind::stay_on_one_processor()?;
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
