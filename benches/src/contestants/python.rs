//! The Python program from which this library originated: REQ and REP sockets with pickle, in
//! `python/`.

use std::{env, path::Path, process::Command};

use crate::{
    Failure,
    process::Process,
    work::{Function, Work},
};

/// Returns the Python interpreter that `BENCH_PYTHON` names, if it is set. The interpreter must
/// have pyzmq.
pub(crate) fn interpreter() -> Option<String> {
    env::var("BENCH_PYTHON").ok().filter(|path| !path.is_empty())
}

pub(crate) fn server() -> Result<Process, Failure> {
    start("server.py", &[])
}

pub(crate) fn client(work: Work, endpoint: &str) -> Result<Process, Failure> {
    let (function, bytes) = match work.function {
        Function::Echo(bytes) => ("echo", bytes),
        Function::CountWords => ("count_words", 0),
    };
    start("client.py", &[endpoint, function, &bytes.to_string(), &work.window.to_string()])
}

fn start(program: &str, arguments: &[&str]) -> Result<Process, Failure> {
    let interpreter = interpreter().ok_or("BENCH_PYTHON names no interpreter")?;
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(program);
    Process::start(Command::new(interpreter).arg(program).args(arguments))
}
