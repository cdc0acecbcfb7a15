//! Peers made of pyzmq, which encrypts with libzmq. The tests run the interpreter that
//! `RPC_TEST_PYTHON` names, or `python3`.

use std::{
    env,
    ffi::OsString,
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rpc_core::{Access, Client, Engine, ErrorKind, PublicKey};
use tests::{Gate, process::examples, soon};

use crate::{Keys, add, hostile, logs::text};

const NO_PYTHON: &str =
    "the interpreter that RPC_TEST_PYTHON names (a full path), or python3, can be started";

fn interpreter() -> OsString {
    env::var_os("RPC_TEST_PYTHON").unwrap_or_else(|| "python3".into())
}

fn python(arguments: &[&str]) -> Command {
    let mut command = Command::new(interpreter());
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/curve/peer.py")).args(arguments);
    command
}

/// A process that is killed when this value is dropped.
struct Peer {
    child: Child,
    endpoint: String,
    /// Kept open because the process may go on to write to it.
    _stdout: BufReader<ChildStdout>,
}

impl Peer {
    fn start(arguments: &[&str]) -> Self {
        Self::of(&mut python(arguments))
    }

    /// Starts a process whose first line is its endpoint.
    fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect(NO_PYTHON);
        let mut endpoint = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        stdout.read_line(&mut endpoint).unwrap();
        Self { child, endpoint: endpoint.trim().to_owned(), _stdout: stdout }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The functions that are called, and who may call them: alice, bob, and the proxy.
const RIGHTS: [(&str, [bool; 3]); 3] = [
    ("add", [true, false, true]),
    ("orders.take", [true, true, false]),
    ("who", [false, true, true]),
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3 with pyzmq and msgpack"]
async fn rights_hold_for_every_kind_of_socket() {
    let mut keys = Keys::default();
    let names = ["alice", "bob", "proxy"];
    let access = Access::new();
    for (column, name) in names.into_iter().enumerate() {
        let allowed = RIGHTS.iter().filter(|(_, rights)| rights[column]);
        access.grant(name, keys.public(name), allowed.map(|(function, _)| *function));
    }
    let server = keys.serve(&access, &Arc::<Gate>::default()).await;
    let server_key = keys.public("server").to_string();
    let functions = RIGHTS.map(|(function, _)| function);
    let expected = |column: usize| {
        let line = |(function, rights): &(&str, [bool; 3])| {
            format!("{function} {}\n", if rights[column] { "ok" } else { "denied" })
        };
        RIGHTS.iter().map(line).collect::<String>()
    };
    for (column, name) in names.into_iter().enumerate() {
        let (public, secret) = (keys.public(name).to_string(), text(&keys.secret(name)));
        for kind in ["req", "dealer", "batch"] {
            let arguments = [kind, server.endpoint(), &server_key, &public, &secret];
            let printed = run(&[&arguments[..], &functions].concat()).await;
            assert_eq!(printed, expected(column), "{kind}");
        }
    }
    // Who has not the secret of an allowed key is not let in, nor with a key that has none.
    let (alice, secret) = (keys.public("alice").to_string(), text(&keys.secret("bob")));
    let weak = hostile::WEAK.map(|key| {
        access.grant("weak", PublicKey::from_bytes(key), ["*"]);
        PublicKey::from_bytes(key).to_string()
    });
    for public in [&alice, &weak[0], &weak[1]] {
        let printed = run(&["refused", server.endpoint(), &server_key, public, &secret]).await;
        assert_eq!(printed, "refused\n", "{public}");
    }
    // Whoever is behind the proxy has its rights.
    let (public, secret) = (keys.public("proxy").to_string(), text(&keys.secret("proxy")));
    let proxy = Peer::start(&["proxy", server.endpoint(), &server_key, &public, &secret]);
    let client = Client::connect(&proxy.endpoint).await.unwrap();
    for (function, rights) in RIGHTS {
        let result = match function {
            "add" => client.call_dynamic::<i32>(function, (1, 2)).await.map(drop),
            "orders.take" => client.call_dynamic::<u32>(function, ()).await.map(drop),
            _ => crate::who::call(&client).await.map(|(name, _)| {
                assert_eq!(name.as_deref(), Some("proxy"));
            }),
        };
        let denied = result.is_err_and(|error| error.kind() == ErrorKind::Denied);
        assert_eq!(denied, !rights[2], "{function}");
    }
    client.close().await;
    server.shutdown().await;
}

/// Runs a peer until it ends, and returns what it prints.
async fn run(arguments: &[&str]) -> String {
    output_of(python(arguments)).await
}

async fn output_of(mut command: Command) -> String {
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = soon("the peer ends", output).await.unwrap().expect(NO_PYTHON);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3 with pyzmq and msgpack"]
async fn peers_of_pyzmq_call_the_example_server() {
    let mut keys = Keys::default();
    let folder = env::temp_dir().join(tests::unique());
    std::fs::create_dir(&folder).unwrap();
    let (_, secret) = keys.secret("server").save(folder.join("server")).unwrap();
    let (allowed, alice) = (folder.join("allowed"), keys.public("alice").to_string());
    std::fs::write(&allowed, format!("{alice} alice add count_words\n")).unwrap();
    let server = examples(&["--features", "curve"]).join("server");
    let mut server = Command::new(server);
    let server = server.args(["--bind", "tcp://127.0.0.1:0", "--curve"]).arg(secret);
    let server = Peer::of(server.arg("--allow").arg(&allowed));
    let endpoint = server.endpoint.strip_prefix("listening on ").unwrap();
    let (server_key, secret) = (keys.public("server").to_string(), text(&keys.secret("alice")));
    let peer = async |kind: &str| {
        run(&[kind, endpoint, &server_key, &alice, &secret, "add", "visits"]).await
    };
    for kind in ["req", "dealer"] {
        assert_eq!(peer(kind).await, "add ok\nvisits denied\n");
    }
    let (_, own) = keys.secret("alice").save(folder.join("alice")).unwrap();
    let mut example = Command::new(interpreter());
    example.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python/encrypted.py"));
    example.arg(endpoint).args([&folder.join("server.key"), &own]);
    let counts = output_of(example).await;
    assert!(counts.contains("'a': 2") && counts.contains("'b': 1"), "{counts}");
    // The list is followed.
    std::fs::write(&allowed, format!("{alice} alice visits\n")).unwrap();
    let followed = async { while peer("req").await != "add denied\nvisits ok\n" {} };
    soon("the list is followed", followed).await;
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3 with pyzmq and msgpack"]
async fn our_client_calls_a_server_of_pyzmq() {
    let mut keys = Keys::default();
    let secret = text(&keys.secret("server"));
    let (server_key, alice) = (keys.public("server").to_string(), keys.public("alice").to_string());
    let peer = Peer::start(&["server", &server_key, &secret, &alice]);
    let client = soon("connecting", keys.client("alice").connect(&peer.endpoint)).await.unwrap();
    assert_eq!(add::call(&client, 40, 2).await.unwrap(), 42);
    client.close().await;

    let omq = || Client::builder().engine(Engine::Omq);
    let other = keys.public("other");
    let cases = [
        ("does not admit the key", keys.client("mallory")),
        ("the server has another key", omq().curve([other], keys.secret("alice"))),
        ("the server takes encrypted connections only", omq()),
    ];
    for (reason, client) in cases {
        let begin = Instant::now();
        let error = client.connect(&peer.endpoint).await.expect_err(reason);
        let text = format!("{error:#}");
        assert!(text.contains(reason) && begin.elapsed() < Duration::from_secs(4), "{text}");
    }
    let mut plain = Command::new(interpreter());
    plain.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/interop/rep_server.py"));
    let plain = Peer::of(plain.arg("tcp://127.0.0.1:*"));
    let error = keys.client("alice").connect(&plain.endpoint).await.unwrap_err();
    assert!(format!("{error:#}").contains("the server does not encrypt"), "{error:#}");
}
