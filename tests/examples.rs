//! Tests of the examples as programs: processes of their own, over real sockets.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use rpc_core::{ErrorKind, Ran, remote};
use tests::{process::examples, soon, unique};

// The functions of the server, declared as in a client that does not link the server.
#[remote]
async fn sleep_ms(ms: u64);
#[remote]
fn spin_ms(ms: u64) -> u64;
#[remote]
fn add(a: i64, b: i64) -> i64;
#[remote]
fn crash();
#[remote]
fn visits() -> u64;

/// Returns the folder of the built examples.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| examples(&[]))
}

fn example(name: &str, arguments: &[&str]) -> Output {
    Command::new(built().join(name)).args(arguments).output().expect("the example was built")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the examples write UTF-8")
}

/// A process of `--example server`, on a free port.
struct ServerProcess {
    child: Child,
    endpoint: String,
    /// Kept open because the server continues to write to it.
    _stdout: Option<BufReader<ChildStdout>>,
}

impl ServerProcess {
    fn start(arguments: &[&str]) -> Self {
        Self::start_at("tcp://127.0.0.1:0", arguments)
    }

    fn start_at(endpoint: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(built().join("server"));
        command.args(["--bind", endpoint]).args(arguments);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it was built");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        stdout.read_line(&mut line).expect("it writes where it listens");
        let endpoint =
            line.trim().strip_prefix("listening on ").expect("it says so first").to_owned();
        Self { child, endpoint, _stdout: Some(stdout) }
    }

    fn terminate(&self) {
        self.signal("-TERM");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill").args([signal, &pid]).status().expect("there is `kill`").success()
        );
    }

    /// Kills the process, and starts another server on the same endpoint.
    fn replace(&mut self, arguments: &[&str]) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was killed");
        let endpoint = self.endpoint.clone();
        *self = Self::start_at(&endpoint, arguments);
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A temporary folder that is removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(unique());
        fs::create_dir(&path).expect("the name is new");
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder"))
            .expect("folders can be made");
        fs::write(&path, content).expect("files can be made");
        path.to_str().expect("it is UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn counts(output: &Output) -> HashMap<String, u64> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("it is one JSON object")
}

#[test]
fn count_words_counts_files_and_folders() {
    let folder = Folder::new();
    let a = folder.file("a.txt", "to be or\u{1c}not\u{3000}to be".as_bytes());
    folder.file("sub/b.txt", b"to");
    folder.file("sub/.hidden", b"hidden");
    folder.file("target/c.txt", b"built");
    folder.file("sub/binary", b"\xff\xfe");
    let expected =
        [("to", 2), ("be", 2), ("or", 1), ("not", 1)].map(|(word, count)| (word.to_owned(), count));
    assert_eq!(counts(&example("count_words", &["--json", &a])), HashMap::from(expected.clone()));

    let output = example("count_words", &["--json", "--chunk", "1", folder.0.to_str().unwrap()]);
    let mut with_b = HashMap::from(expected);
    with_b.insert("to".to_owned(), 3);
    assert_eq!(counts(&output), with_b);
    let folder = folder.0.to_str().unwrap();
    let streamed = example("count_words", &["--json", "--stream", "--chunk", "1", folder]);
    assert_eq!(counts(&streamed), with_b);
    assert!(text(&output.stderr).contains("binary"), "{}", text(&output.stderr));
}

#[test]
fn stream_follows_a_file_uploads_and_shows_progress() {
    for (arguments, last) in [
        (&["tail"][..], "line 10\n"),
        (&["upload", "--mib", "16"], " at most\n"),
        (&["progress"], "the work is done\n"),
    ] {
        let output = example("stream", arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).ends_with(last), "{}", text(&output.stdout));
    }
}

#[test]
fn count_words_needs_no_arguments() {
    let output = example("count_words", &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("calls/s"), "{}", text(&output.stdout));
}

#[test]
fn count_words_names_a_file_that_it_cannot_read() {
    let folder = Folder::new();
    let missing = folder.0.join("missing").to_str().unwrap().to_owned();
    let binary = folder.file("binary", b"ok \xff");
    for path in [missing, binary] {
        let output = example("count_words", &[&path]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(&path), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn count_words_uses_servers_that_run_elsewhere() {
    let (one, two) = (ServerProcess::start(&[]), ServerProcess::start(&[]));
    let folder = Folder::new();
    let file = folder.file("words", "x y ".repeat(10_000).as_bytes());
    let servers = ["--server", &one.endpoint, "--server", &two.endpoint];
    let output =
        example("count_words", &[&servers[..], &["--json", "--chunk", "100", &file]].concat());
    assert_eq!(
        counts(&output),
        HashMap::from([("x".to_owned(), 10_000), ("y".to_owned(), 10_000)])
    );
}

#[test]
fn count_words_survives_dead_and_frozen_servers() {
    /// The time that the server stays frozen: far longer than the client's keepalive timeout.
    const FROZEN: Duration = Duration::from_secs(5);
    let words = ["to", "be", "or", "not", "that", "is", "the", "question"];
    let line = words.join(" ") + "\n";
    let lines = 50_000_000 / line.len() as u64;
    let folder = Folder::new();
    let file = folder.file("large.txt", line.repeat(usize::try_from(lines).unwrap()).as_bytes());
    let arguments = ["--workers", "1"];
    let mut servers = [(); 3].map(|()| ServerProcess::start(&arguments));
    let endpoints =
        servers.each_ref().map(|server| format!("--server {}", server.endpoint)).join(" ");
    let program = built().join("count_words");
    // Small chunks make the job outlast the faults of the servers, even on a fast machine. The job
    // runs on a terminal, so that it shows a progress bar.
    let chunk = if cfg!(debug_assertions) { 1_024 } else { 64 };
    let command = format!("{} --chunk {chunk} --top 9 {endpoints} {file}", program.display());
    let job =
        Command::new("script").args(["-qec", &command, "/dev/null"]).stdout(Stdio::piped()).spawn();
    let mut job = job.expect("there is `script`");

    // The job is under way as soon as a server is busy, which means that it has used more processor
    // time than its start takes.
    let busy = |server: &ServerProcess| {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", server.child.id())).expect("it runs");
        let ticks = |field: &str| field.parse::<u64>().expect("it is a number");
        let fields: Vec<_> =
            stat.rsplit(')').next().expect("a name is in it").split_whitespace().collect();
        ticks(fields[11]) + ticks(fields[12]) > 10
    };
    while !servers.iter().all(busy) {
        std::thread::yield_now();
        assert!(job.try_wait().unwrap().is_none(), "it ended before anything befell the servers");
    }
    servers[1].signal("-STOP");
    let frozen_at = std::time::Instant::now();
    servers[0].replace(&arguments);
    assert!(job.try_wait().unwrap().is_none(), "it ended before anything befell the servers");
    let mut output = job.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        output.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    // The frozen server stays frozen for the whole time, whatever the job does meanwhile.
    std::thread::sleep(FROZEN.saturating_sub(frozen_at.elapsed()));
    servers[1].signal("-CONT");
    servers[1].replace(&arguments);
    assert!(job.wait().unwrap().success());
    let shown = reader.join().unwrap().unwrap();
    for word in words {
        let counted = shown.lines().any(|line| {
            let mut columns = line.split_whitespace();
            columns.any(|column| column == word) && line.contains(&lines.to_string())
        });
        assert!(counted, "{word}: {lines} times\n{}", &shown[shown.len().saturating_sub(2_000)..]);
    }
    for happens in ["sent nothing for 1", "calls were made again"] {
        assert!(shown.contains(happens), "the progress bar says: {happens}");
    }
}

#[test]
fn client_examples_run_against_a_server() {
    let server = ServerProcess::start(&["--workers", "2"]);
    for name in ["client", "blocking", "declare"] {
        let output = example(name, &["--server", &server.endpoint]);
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        assert!(!output.stdout.is_empty(), "{name}");
    }
}

#[test]
fn audited_writes_down_who_has_called_what() {
    let output = example("audited", &[]);
    assert!(output.status.success(), "{output:?}");
    // Each line ends with the time that the function took.
    let line = |line: &str| line.rsplit_once(", ").map_or(line, |(line, _)| line).to_owned();
    let lines: Vec<_> = text(&output.stdout).lines().map(line).collect();
    assert_eq!(
        lines,
        [
            "\"alice\" called add: ok",
            "refused \"ad\": unknown_function",
            "\"alice\" called divide: failed",
            "\"alice\" called add: unauthenticated",
            "refused \"ad\": unknown_function",
            "\"alice\" called divide: unauthenticated",
        ]
    );
}

#[test]
fn server_lists_its_functions() {
    let mut command = Command::new(built().join("server"));
    command.args(["--bind", "tcp://127.0.0.1:0", "--bind", &tests::ipc()]).stdout(Stdio::piped());
    let child = command.stderr(Stdio::null()).spawn().unwrap();
    let mut server = ServerProcess { child, endpoint: String::new(), _stdout: None };
    let stdout = server.child.stdout.take().unwrap();
    let mut lines = BufReader::new(stdout).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("listening on tcp://127.0.0.1:"));
    assert!(lines.next().unwrap().starts_with("listening on ipc:///"));
    let functions: Vec<_> = lines.by_ref().take(10).collect();
    for function in [
        "add",
        "count_stream",
        "count_words",
        "crash",
        "divide",
        "echo",
        "primes",
        "sleep_ms",
        "spin_ms",
        "visits",
    ] {
        assert!(functions.iter().any(|line| line.contains(function)), "{function}: {functions:?}");
    }
    // SIGTERM instead of SIGKILL, so that the server removes its socket file.
    server.terminate();
    assert!(server.child.wait().unwrap().success());
}

#[tokio::test]
async fn killed_server_ends_its_calls() {
    let mut server = ServerProcess::start(&[]);
    let client = tests::client().connect(&server.endpoint).await.unwrap();
    assert_eq!(visits::call(&client).await.unwrap(), 1);
    let asleep = tokio::spawn(sleep_ms::call(&client, 3_600_000));
    let busy = tokio::spawn(spin_ms::call(&client, 3_600_000));
    tokio::task::yield_now().await;
    client.ping().await.unwrap();
    server.child.kill().unwrap();
    let errors = [
        soon("the call ends with its server", asleep).await.unwrap().unwrap_err(),
        soon("the call ends with its server", busy).await.unwrap().unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::Maybe));
    }
    let error = add::call(&client, 1, 2).timeout(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::DeadlineExceeded, Ran::No));
}

#[tokio::test]
async fn terminated_server_finishes_running_calls() {
    let mut server = ServerProcess::start(&[]);
    let client = tests::client().connect(&server.endpoint).await.unwrap();
    let call = tokio::spawn(sleep_ms::call(&client, 300));
    // The ping is sent after the call, so the call has begun when the ping is answered.
    tokio::task::yield_now().await;
    client.ping().await.unwrap();
    server.terminate();
    soon("the call is answered", call).await.unwrap().unwrap();
    let waiting = tokio::task::spawn_blocking(move || (server.child.wait().unwrap(), server));
    let (status, _server) = soon("the server ends", waiting).await.unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_crashing_function_does_not_end_the_process() {
    let mut server = ServerProcess::start(&[]);
    let client = tests::client().connect(&server.endpoint).await.unwrap();
    for _ in 0..100 {
        assert_eq!(crash::call(&client).await.unwrap_err().kind(), ErrorKind::Panicked);
    }
    assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
    assert!(server.child.try_wait().unwrap().is_none());
}

#[test]
fn server_reports_an_endpoint_in_use() {
    let server = ServerProcess::start(&[]);
    let mut second = Command::new(built().join("server"));
    let mut second =
        second.args(["--bind", &server.endpoint]).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(1));
    let mut stderr = String::new();
    second.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(stderr.contains(&format!("cannot listen on {}", server.endpoint)), "{stderr}");
}
