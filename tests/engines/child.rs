//! Tests and servers that run in processes of their own, because they would end this process or
//! need more file descriptors than it may have.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::Arc,
};

use rpc_core::Engine;
use tests::{Gate, soon};
use tokio::task::spawn_blocking;

use crate::functions::builder;

const ENGINE: &str = "RPC_TEST_CHILD";
/// The endpoint on which the child listens.
const ENDPOINT: &str = "RPC_TEST_CHILD_ENDPOINT";
const LISTENING: &str = "listening on ";

/// Returns the command that runs one test of this program in a new process. The process may open as
/// many files as the system's hard limit allows.
pub(crate) fn test(name: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn \"$(ulimit -Hn)\"; exec \"$0\" \"$@\""]);
    this_test(command, name)
}

/// Returns the command that runs one test in a process that may open only `limit` files.
pub(crate) fn test_with_files(name: &str, limit: u32) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]);
    this_test(command, name)
}

fn this_test(mut command: Command, name: &str) -> Command {
    command.arg(env::current_exe().expect("this is a program"));
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    command
}

/// A server in a process of its own. The process ends when this value is dropped.
pub(crate) struct Server {
    child: Child,
    /// Nobody reads the final output of most servers, but the pipe must stay open for it.
    output: Option<BufReader<ChildStdout>>,
    pub(crate) endpoint: String,
}

impl Server {
    pub(crate) async fn start(engine: Engine) -> Self {
        Self::run(test("child::a_server"), engine, "tcp://127.0.0.1:0").await
    }

    /// Starts a server in a process that ends when it gets SIGPIPE.
    pub(crate) async fn start_with_sigpipe(engine: Engine, endpoint: &str) -> Self {
        Self::run(test("child::a_server_with_sigpipe"), engine, endpoint).await
    }

    /// Starts a server with `command`, which runs a test of this file.
    pub(crate) async fn run(mut command: Command, engine: Engine, endpoint: &str) -> Self {
        command.env(ENGINE, format!("{engine:?}")).env(ENDPOINT, endpoint);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let start = move || {
            let mut child = command.spawn().expect("there is `sh`");
            let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
            let mut lines = output.by_ref().lines().map(|line| line.expect("it is text"));
            let endpoint = lines.find_map(|line| line.strip_prefix(LISTENING).map(str::to_owned));
            let endpoint = endpoint.expect("the server says where it listens");
            Self { child, output: Some(output), endpoint }
        };
        soon("the child starts", spawn_blocking(start)).await.expect("it does not panic")
    }

    /// Waits until the process has written a line that contains `text`.
    pub(crate) async fn writes(&mut self, text: &'static str) {
        let mut output = self.output.take().expect("nothing else reads it");
        let read = move || {
            let mut lines = output.by_ref().lines().map(|line| line.expect("it is text"));
            assert!(lines.any(|line| line.contains(text)), "the process has ended");
            output
        };
        let output = soon(text, spawn_blocking(read)).await.expect("the process writes it");
        self.output = Some(output);
    }

    /// Waits until the process ends by itself.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        let wait = move || {
            // Dropping the child's stdin would tell it to end.
            let input = self.child.stdin.take();
            let status = self.child.wait().expect("it was started");
            drop(input);
            status
        };
        soon("the child ends", spawn_blocking(wait)).await.expect("it does not panic")
    }

    /// Tells the process to end, and waits until it has ended.
    pub(crate) async fn told_to_end(mut self) -> ExitStatus {
        drop(self.child.stdin.take());
        self.ended().await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
#[ignore = "other tests run it, in a process of its own"]
async fn a_server() {
    serve().await;
}

#[tokio::test]
#[ignore = "other tests run it, in a process of its own"]
async fn a_server_with_sigpipe() {
    // Rust programs ignore the signal, but not libraries in programs of other languages.
    sigpipe::reset();
    serve().await;
}

#[tokio::test]
#[ignore = "other tests run it, in a process of its own"]
async fn a_server_with_a_log() {
    tracing_subscriber::fmt().with_writer(std::io::stdout).init();
    serve().await;
}

async fn serve() {
    let engine = match env::var(ENGINE).as_deref() {
        Ok("Omq") => Engine::Omq,
        _ => Engine::Zeromq,
    };
    let gate: Arc<Gate> = Arc::default();
    let endpoint = env::var(ENDPOINT).unwrap();
    let server = builder(&gate).engine(engine).bind(endpoint).await.unwrap().spawn().unwrap();
    // The test harness prints the name of the test first, so the endpoint needs a line of its own.
    println!("\n{LISTENING}{}", server.endpoint());
    spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await.unwrap().unwrap();
    server.shutdown().await;
}
