//! Server processes that a program starts for itself, and that end with it.

use std::{
    error::Error,
    future::Future,
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

use rpc_core::Server;

/// A server process. It is killed when this value is dropped.
#[derive(Debug)]
pub struct ChildServer {
    /// The process. It also ends when its stdin is closed, as it is if this program dies.
    pub process: Child,
    /// The endpoint on which it listens.
    pub endpoint: String,
}

impl ChildServer {
    /// Starts this program again with `arguments`, and waits until it serves.
    ///
    /// # Errors
    /// Fails if the process does not start, or ends before it serves.
    pub fn start(name: &str, arguments: &[String]) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let stdout = process.stdout.take().ok_or("the process has no stdout")?;
        let mut endpoint = String::new();
        BufReader::new(stdout).read_line(&mut endpoint)?;
        let endpoint = endpoint.trim().to_owned();
        if endpoint.is_empty() {
            return Err(format!("{name} did not start: {}", process.wait()?).into());
        }
        Ok(Self { process, endpoint })
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves in a process that [`ChildServer::start`] has started, until `ends` completes or the parent
/// has gone. Then the process exits.
///
/// # Errors
/// Fails if the server does.
pub async fn serve(server: Server, ends: impl Future<Output = ()>) -> Result<(), Box<dyn Error>> {
    println!("{}", server.endpoint());
    io::stdout().flush()?;
    // The parent holds the other end of stdin, and never writes to it.
    let orphaned = tokio::task::spawn_blocking(|| io::read_to_string(io::stdin()));
    let stop = async {
        tokio::select! {
            () = ends => {}
            _ = orphaned => {}
        }
    };
    server.serve_until(stop).await?;
    // Reading stdin cannot be stopped.
    std::process::exit(0);
}
