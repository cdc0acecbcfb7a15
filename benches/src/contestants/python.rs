//! The Python programs in `python/`: the one from which this library originated, with REQ and REP
//! sockets and pickle, and the RPC program of pika's tutorial.

use std::{env, path::Path, process::Command};

use crate::{
    Failure,
    contestant::Kind,
    contestants::broker,
    process::Process,
    work::{Function, Work},
};

/// Returns the Python interpreter that `BENCH_PYTHON` names, if it is set. The interpreter must
/// have pyzmq, and pika if there is a broker.
pub(crate) fn interpreter() -> Option<String> {
    env::var("BENCH_PYTHON").ok().filter(|path| !path.is_empty())
}

pub(crate) fn server(kind: Kind) -> Result<Process, Failure> {
    match kind {
        Kind::Pika => {
            let broker = broker::broker().ok_or("BENCH_BROKER names no broker")?;
            start("pika_server.py", &[&broker::endpoint(&broker)])
        }
        _ => start("server.py", &[]),
    }
}

pub(crate) fn client(kind: Kind, work: Work, endpoint: &str) -> Result<Process, Failure> {
    let (function, bytes) = match work.function {
        Function::Echo(bytes) => ("echo", bytes),
        Function::CountWords => ("count_words", 0),
        Function::Items(_) => return Err("it has no streams".into()),
    };
    let program = if kind == Kind::Pika { "pika_client.py" } else { "client.py" };
    start(program, &[endpoint, function, &bytes.to_string(), &work.window.to_string()])
}

fn start(program: &str, arguments: &[&str]) -> Result<Process, Failure> {
    let interpreter = interpreter().ok_or("BENCH_PYTHON names no interpreter")?;
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(program);
    Process::start(Command::new(interpreter).arg(program).args(arguments))
}
