//! The main job of the examples, through a broker.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

use tests::{process::examples, soon, unique};

use crate::{BROKER, until};

/// Returns the folder of the built examples.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| examples(&["--features", "examples/amqps"]))
}

fn count_words(arguments: &[&str]) -> Child {
    let mut command = Command::new(built().join("count_words"));
    command.arg("--json").args(arguments).stdout(Stdio::piped());
    command.spawn().expect("it was built")
}

/// A server of the examples, which is killed when this value is dropped.
struct Server {
    child: Child,
    /// Kept open because the server continues to write to it.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(endpoint: &str) -> Self {
        let mut command = Command::new(built().join("server"));
        command.args(["--bind", endpoint]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it was built");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        stdout.read_line(&mut String::new()).expect("it writes where it listens");
        Self { child, _stdout: stdout }
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("there is `kill`");
    assert!(sent.success(), "the process runs");
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL also ends a stopped process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn counts_are_exact_though_a_server_is_killed() {
    let text = env::temp_dir().join(unique());
    let words: Vec<_> = (0..600_000).map(|n| format!("word{}", n % 9_973)).collect();
    fs::write(&text, words.join(" ")).unwrap();
    let path = text.to_str().unwrap();
    let counts = async |arguments: &[&str]| {
        let job = count_words(&[arguments, &["--chunk", "512", path]].concat());
        let output = tokio::task::spawn_blocking(|| job.wait_with_output());
        let output = soon("the job", output).await.unwrap().unwrap();
        assert!(output.status.success());
        output.stdout
    };
    let expected = counts(&[]).await;
    let broker = BROKER.endpoint();
    assert!(counts(&["--broker", &broker]).await == expected, "with a server of its own");

    // The first server stands still with the calls that it took, so that the job cannot end.
    let broker = BROKER.endpoint();
    let first = Server::start(&broker);
    signal(&first.child, "STOP");
    let job = count_words(&["--server", &broker, "--chunk", "512", path]);
    let queue = broker.split_once("?queue=").unwrap().1;
    until("the first server holds calls", async || {
        let queues = BROKER.ctl(&["list_queues", "name", "messages_unacknowledged"]);
        queues.lines().any(|line| {
            line.split_once('\t').is_some_and(|(name, held)| name == queue && held != "0")
        })
    })
    .await;
    let _others = [(); 2].map(|()| Server::start(&broker));
    drop(first);
    let output = tokio::task::spawn_blocking(|| job.wait_with_output());
    let output = soon("the job", output).await.unwrap().unwrap();
    assert!(output.status.success() && output.stdout == expected, "with one that was killed");
    fs::remove_file(&text).unwrap();
}
