//! Servers as processes that a test can start, kill, stop, resume, terminate, and restart on the
//! same endpoint.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::{resources, soon};

/// The endpoint of servers that are restarted on the port that they had. Outgoing connections of
/// this machine do not come from this address, so none of them can take the port in the meantime.
const ANY_PORT: &str = "tcp://127.0.0.2:0";

/// A process of `test-server`. The process is killed when this value is dropped, and ends by itself
/// when the test process ends.
#[derive(Debug)]
pub struct ServerProcess {
    program: &'static str,
    arguments: Vec<String>,
    /// The argument that makes a new process listen on `endpoint`.
    at: String,
    endpoint: String,
    child: Child,
    /// The server ends when this pipe closes. The pipe is taken out of the child because `wait` on
    /// the child would close it.
    stdin: ChildStdin,
}

impl ServerProcess {
    /// Starts `program`, which is `env!("CARGO_BIN_EXE_test-server")`, on a free port, and waits
    /// until the server listens.
    ///
    /// # Panics
    /// Panics if the server does not start.
    #[must_use]
    pub fn start(program: &'static str, arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (child, stdin, endpoint) = launch(program, ANY_PORT, &arguments);
        Self { program, arguments, at: endpoint.clone(), endpoint, child, stdin }
    }

    /// Starts `program` on this `endpoint`, which may be the queue of a broker.
    ///
    /// # Panics
    /// Panics if the server does not start.
    #[must_use]
    pub fn start_at(program: &'static str, endpoint: &str, arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (child, stdin, stated) = launch(program, endpoint, &arguments);
        Self { program, arguments, at: endpoint.to_owned(), endpoint: stated, child, stdin }
    }

    /// Kills the process if it still runs, starts it again on the same port, and waits until the
    /// server listens.
    ///
    /// # Panics
    /// Panics if the server does not start.
    pub fn restart(&mut self) {
        self.kill();
        let (child, stdin, endpoint) = launch(self.program, &self.at, &self.arguments);
        assert_eq!(endpoint, self.endpoint);
        (self.child, self.stdin) = (child, stdin);
    }

    /// Returns the endpoint on which the server listens.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the address on which the server listens.
    ///
    /// # Panics
    /// Panics if the server listens on the queue of a broker.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.endpoint
            .strip_prefix("tcp://")
            .and_then(|address| address.parse().ok())
            .expect("it is TCP")
    }

    /// Returns the id of the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the memory that the process holds in RAM, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        resources::memory(self.pid())
    }

    /// Kills the process with SIGKILL, and waits until it has gone. Does nothing if the process has
    /// ended already.
    ///
    /// # Panics
    /// Panics if waiting for the process fails.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("a child can be waited for");
    }

    /// Suspends the process with SIGSTOP: its sockets stay open, and nobody reads them.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// Resumes the process with SIGCONT.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Tells the process with SIGTERM to drain and end.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    /// Panics if the process has not ended within [`PATIENCE`](crate::PATIENCE).
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon("the server ends", ended).await
    }

    fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("there is `kill`");
        assert!(sent.success(), "the server runs");
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // The process may have ended already. SIGKILL also ends a stopped process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the examples, so that a test never runs an outdated build, and returns their folder. The
/// `arguments` are further ones for `cargo build`.
///
/// # Panics
/// Panics if they cannot be built.
#[must_use]
pub fn examples(arguments: &[&str]) -> PathBuf {
    // This program is in the folder `deps` of the profile's folder.
    let program = std::env::current_exe().expect("this program has a path");
    let profile = program.ancestors().nth(2).expect("it is two folders deep");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "examples", "--examples", "--target-dir"]);
    build.arg(profile.parent().expect("it is in the target folder")).args(arguments);
    // The caller may belong to another workspace.
    build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo can be started").success());
    profile.join("examples")
}

fn launch(program: &str, endpoint: &str, arguments: &[String]) -> (Child, ChildStdin, String) {
    let mut command = Command::new(program);
    command.arg(endpoint).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("cargo has built it");
    let stdin = child.stdin.take().expect("it is piped");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("it writes text");
    let endpoint = line.trim().strip_prefix("listening on ").expect("it says where it listens");
    let endpoint = endpoint.to_owned();
    (child, stdin, endpoint)
}
