//! Servers as processes: started, killed, stopped, continued, told to end, and started again where
//! they were.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::{resources, soon};

/// Where servers listen that are started again on the port they had. It is not the address that
/// outgoing connections of this machine come from, so that none of them can take the port
/// meanwhile.
const ANY_PORT: &str = "tcp://127.0.0.2:0";

/// A process of `test-server`. It is killed when this is dropped, and ends by itself when the
/// test's process does.
#[derive(Debug)]
pub struct ServerProcess {
    program: &'static str,
    arguments: Vec<String>,
    endpoint: String,
    child: Child,
    /// The server ends when this does. Taken from the child, whose `wait` would close it.
    stdin: ChildStdin,
}

impl ServerProcess {
    /// Starts `program`, which is `env!("CARGO_BIN_EXE_test-server")`, on a free port, and waits
    /// until it listens.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn start(program: &'static str, arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (child, stdin, endpoint) = launch(program, ANY_PORT, &arguments);
        Self { program, arguments, endpoint, child, stdin }
    }

    /// Kills it if it still runs, starts it again on the port that it had, and waits until it
    /// listens.
    ///
    /// # Panics
    /// If it does not.
    pub fn restart(&mut self) {
        self.kill();
        let (child, stdin, endpoint) = launch(self.program, &self.endpoint, &self.arguments);
        assert_eq!(endpoint, self.endpoint);
        (self.child, self.stdin) = (child, stdin);
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Never: it listens on a TCP port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.endpoint
            .strip_prefix("tcp://")
            .and_then(|address| address.parse().ok())
            .expect("it is TCP")
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it holds of memory, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        resources::memory(self.pid())
    }

    /// Ends it without a warning (SIGKILL), and waits until it has gone. Does nothing if it has
    /// ended.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("a child can be waited for");
    }

    /// Makes it stand still (SIGSTOP): its sockets stay open, and nobody reads them.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Tells it to drain and end (SIGTERM).
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// If it does not.
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
        // It may have ended already. One that is stopped is killed all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
