//! The examples that need etcd, as programs.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

use tests::{etcd::Etcd, process::examples};

fn built(name: &str) -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    Command::new(BUILT.get_or_init(|| examples(&["--features", "etcd"])).join(name))
}

/// Runs a command, and returns what it prints to both streams.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

const INPUT: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/../PROTOCOL.md"),
];

#[test]
fn late_write_of_a_frozen_worker_is_refused() {
    let etcd = Etcd::start(1);
    let address = etcd.address(0).to_string();
    let mut command = built("shared_counts");
    let (succeeds, text) = run(command.args(["--etcd", &address, "--chunk", "1000"]).args(INPUT));
    assert!(succeeds, "{text}");
    assert_eq!(text.matches("The document equals the serial count.").count(), 2, "{text}");
    assert!(text.contains("worker-1: has the lock with the token "), "{text}");
    assert!(text.contains("worker-1 does not answer: "), "{text}");
    assert!(text.contains("worker-1: its write with the token "), "{text}");
    assert!(text.contains("Its late write was refused."), "{text}");
}

/// A process that is killed when this value is dropped. It goes on to write to its stdout.
struct Killed(Child, Option<BufReader<ChildStdout>>);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn words_are_counted_on_servers_that_a_name_stands_for() {
    let etcd = Etcd::start(1);
    let name = format!("etcd://{}/words", etcd.address(0));
    let mut servers = Vec::new();
    for _ in 0..2 {
        let mut command = built("server");
        command.args(["--bind", "tcp://127.0.0.1:0", "--register", &name]);
        let process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut process = Killed(process, None);
        let mut stdout = BufReader::new(process.0.stdout.take().unwrap());
        stdout.read_line(&mut String::new()).unwrap();
        process.1 = Some(stdout);
        servers.push(process);
    }
    let count = || run(built("count_words").args(["--discover", &name, "--json"]).args(INPUT));
    let (succeeds, counts) = count();
    assert!(succeeds, "{counts}");
    let (succeeds, alone) = run(built("count_words").arg("--json").args(INPUT));
    assert!(succeeds && counts == alone, "{counts}\n{alone}");
    // One is killed, and its name stays until its lease ends.
    servers.remove(0);
    assert_eq!(count(), (true, alone));
}
