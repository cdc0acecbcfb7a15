//! The main job of the examples, through a broker.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use tests::{soon, unique};

use crate::BROKER;

/// Returns the folder of the built examples.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "examples", "--examples"]);
        build.args(["--features", "examples/amqps"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo can be started").success());
        // This program is in the folder `deps` of the profile's folder.
        let program = env::current_exe().expect("this program has a path");
        program.ancestors().nth(2).expect("it is two folders deep").join("examples")
    })
}

fn count_words(arguments: &[&str]) -> Child {
    let mut command = Command::new(built().join("count_words"));
    command.arg("--json").args(arguments).stdout(Stdio::piped());
    command.spawn().expect("it was built")
}

/// A server of the examples, which is killed when this value is dropped.
struct Server(Child);

impl Server {
    fn start(endpoint: &str) -> Self {
        let mut command = Command::new(built().join("server"));
        command.args(["--bind", endpoint]).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("it was built"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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

    let mut servers = [(); 3].map(|()| Server::start(&broker));
    let mut job = count_words(&["--broker", &broker, "--chunk", "512", path]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(job.try_wait().unwrap().is_none(), "the job is under way");
    servers[0].0.kill().unwrap();
    let output = tokio::task::spawn_blocking(|| job.wait_with_output());
    let output = soon("the job", output).await.unwrap().unwrap();
    assert!(output.status.success() && output.stdout == expected, "with one that was killed");
    fs::remove_file(&text).unwrap();
}
