//! Traces and metrics: the examples `traced` and `metered`, and the table of metrics in
//! docs/OPERATIONS.md.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use tests::{PATIENCE, process::examples};

fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| examples(&["--features", "otel,metrics"])).join(name)
}

#[test]
fn trace_of_three_processes_is_one_tree() {
    let output = Command::new(program("traced")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let tree = "  rpc.client total in client\n    rpc.server total in shop\n      \
        rpc.client price in shop\n        rpc.server price in prices\n      \
        rpc.client price in shop\n        rpc.server price in prices\n";
    let (head, shown) = text.split_once("\ntrace ").expect("there is a trace");
    assert_eq!(head, "The items cost 300 cents together.");
    let (id, shown) = shown.split_once('\n').unwrap();
    assert_eq!(id.len(), 32, "{id}");
    assert_eq!(shown.trim_end(), tree.trim_end());
    assert!(!shown.contains("trace "), "there is no other trace");
}

struct Metered(Child);

impl Drop for Metered {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the metrics as Prometheus does. `None` if there are none yet.
fn scrape(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.contains("code=\"unknown_function\"").then_some(text)
}

#[test]
fn metrics_are_those_of_the_table() {
    // Outgoing connections do not come from this address, so none of them can take the port.
    let free = TcpListener::bind("127.0.0.2:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let mut command = Command::new(program("metered"));
    let command = command.args(["--bind", "tcp://127.0.0.1:0", "--metrics", &address]);
    let _metered = Metered(command.stdout(Stdio::null()).spawn().unwrap());
    let begin = Instant::now();
    let text = loop {
        if let Some(text) = scrape(&address) {
            break text;
        }
        assert!(begin.elapsed() < PATIENCE, "there are no metrics");
        std::thread::sleep(Duration::from_millis(10));
    };
    let found: BTreeSet<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(str::to_owned).collect();
    let doc = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");
    let doc = std::fs::read_to_string(doc).unwrap();
    let documented: BTreeSet<_> = doc
        .lines()
        .filter_map(|line| line.strip_prefix("| `rpc_"))
        .map(|row| {
            let mut cells = row.split('|').map(str::trim);
            let (name, kind) = (cells.next().unwrap(), cells.next().unwrap());
            format!("rpc_{} {kind}", name.trim_end_matches('`'))
        })
        .collect();
    // No reply was dropped.
    let never = BTreeSet::from(["rpc_server_dropped_replies_total counter".to_owned()]);
    let expected: BTreeSet<_> = documented.difference(&never).cloned().collect();
    assert_eq!(found, expected);
    for line in [
        "rpc_server_calls_total{function=\"add\",code=\"ok\"} 100",
        "rpc_server_calls_total{function=\"divide\",code=\"failed\"} 10",
        "rpc_server_refused_total{code=\"unknown_function\"} 1",
        "rpc_server_running 0",
        "rpc_server_clients 1",
        "rpc_client_calls_total{function=\"divide\",code=\"failed\"} 10",
        "rpc_client_links 1",
        "rpc_client_call_seconds_count{function=\"add\"} 100",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
