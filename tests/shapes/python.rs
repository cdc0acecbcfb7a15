//! The same calls from Python. `tests/interop/main.rs` says how to run them.

use std::{env, process::Command};

use crate::{params, results, types};

#[tokio::test]
#[ignore = "needs python3 with pyzmq and msgpack"]
async fn python_calls_every_shape() {
    let interpreter = env::var_os("RPC_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(interpreter);
    command.arg(format!("{}/shapes/calls.py", env!("CARGO_MANIFEST_DIR")));
    let mut servers = Vec::new();
    let lines = params::lines().into_iter().chain(results::lines()).chain(types::lines().await);
    for line in lines {
        let server = line.server.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
        for call in line.calls {
            command.args([line.name, server.endpoint()]).args(call);
        }
        servers.push(server);
    }
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = tests::soon("python", run).await.unwrap().expect("python can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for server in servers {
        server.shutdown().await;
    }
}
