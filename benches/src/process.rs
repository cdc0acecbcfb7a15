//! The child processes that are measured. A child is killed when its handle is dropped. When this
//! program ends, its children end by themselves.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::Failure;

/// A child process, and the lines that it exchanges with this program.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a program with pipes for its stdin and stdout.
    pub(crate) fn start(command: &mut Command) -> Result<Self, Failure> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Ok(Self { child, stdin, stdout })
    }

    /// Starts this program in another role.
    pub(crate) fn own(arguments: &[&str]) -> Result<Self, Failure> {
        Self::start(Command::new(std::env::current_exe()?).args(arguments))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line of the child's stdout.
    pub(crate) fn read_line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            return Err("a process has ended early; it may have said why above".into());
        }
        Ok(line.trim().to_owned())
    }

    /// Sends a line to the child, and waits for its answer.
    pub(crate) fn ask(&mut self, line: &str) -> Result<String, Failure> {
        writeln!(self.stdin, "{line}")?;
        self.read_line()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail if the child has ended already, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
