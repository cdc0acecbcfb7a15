//! Endpoints that come and go while a client runs, as a source of endpoints names them.

use std::{
    collections::BTreeSet,
    fs,
    future::IntoFuture,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use rpc_core::{
    Balancing, Client, Connectivity, Discovery, DiscoveryError, ErrorKind, Ran, Registration,
    ServerHandle, Withdrawal, remote,
};
use tests::{
    Gate,
    follow::{self, Callers, says},
    ipc, soon,
};
use tokio::sync::mpsc;

use crate::functions::{Which, builder, hold_async};

#[remote(inline, idempotent)]
fn place(#[state] which: &Which) -> usize {
    which.0
}

/// The lists that a test hands to a client. A list that is an error panics if it is `"panic"`.
struct Scripted(mpsc::UnboundedReceiver<Result<Vec<String>, &'static str>>);

impl Discovery for Scripted {
    fn name(&self) -> String {
        "script".to_owned()
    }

    async fn next(&mut self) -> Result<Vec<String>, DiscoveryError> {
        match self.0.recv().await {
            Some(Err("panic")) => panic!("as it was told"),
            Some(list) => list.map_err(Into::into),
            None => std::future::pending().await,
        }
    }
}

type Script = mpsc::UnboundedSender<Result<Vec<String>, &'static str>>;

fn scripted() -> (Script, Scripted) {
    let (script, lists) = mpsc::unbounded_channel();
    (script, Scripted(lists))
}

async fn serve(number: usize, gate: &Arc<Gate>) -> ServerHandle {
    let bound = builder(gate).state(Which(number)).bind("tcp://127.0.0.1:0").await;
    bound.unwrap().spawn().unwrap()
}

fn names(servers: &[&ServerHandle]) -> Vec<String> {
    servers.iter().map(|server| server.endpoint().to_owned()).collect()
}

/// Calls until exactly the servers with these numbers have answered.
async fn answer(client: &Client, numbers: &[usize]) {
    follow::answer(numbers, || place::call(client)).await;
}

#[tokio::test]
async fn calls_follow_the_source() {
    let gate: Arc<Gate> = Arc::default();
    let [a, b, c] = [serve(0, &gate).await, serve(1, &gate).await, serve(2, &gate).await];
    let (script, source) = scripted();
    script.send(Ok(names(&[&a]))).unwrap();
    let client =
        tests::client().balancing(Balancing::RoundRobin).connect_via(source).await.unwrap();
    answer(&client, &[0]).await;
    let held = tokio::spawn(hold_async::call(&client));
    gate.entered(1).await;
    script.send(Ok(names(&[&a, &b, &c]))).unwrap();
    answer(&client, &[0, 1, 2]).await;
    script.send(Ok(names(&[&b]))).unwrap();
    answer(&client, &[1]).await;
    // An error, an empty list and garbage take no server away, and are told.
    for (list, text) in [
        (Err("it is away"), "it is away"),
        (Ok(vec![]), "no endpoint"),
        (Ok(vec!["garbage".to_owned()]), "`garbage`"),
    ] {
        script.send(list).unwrap();
        says(&client, text).await;
        answer(&client, &[1]).await;
    }
    script.send(Ok(names(&[&b, &c]))).unwrap();
    says(&client, "").await;
    answer(&client, &[1, 2]).await;
    // A panic ends the source, and nothing else.
    script.send(Err("panic")).unwrap();
    says(&client, "it has panicked: as it was told").await;
    answer(&client, &[1, 2]).await;
    assert!(!held.is_finished(), "its server was removed, and still owes the reply");
    gate.open();
    assert!(soon("the call", held).await.unwrap().unwrap());
    assert_eq!(client.status().retries, 0);
    client.close().await;
    for server in [a, b, c] {
        server.shutdown().await;
    }
}

#[tokio::test]
async fn no_call_fails_while_servers_come_and_go() {
    let gate: Arc<Gate> = Arc::default();
    let mut servers = vec![serve(0, &gate).await];
    let (script, source) = scripted();
    script.send(Ok(names(&[&servers[0]]))).unwrap();
    let client = tests::client().connect_via(source).await.unwrap();
    let callers = Callers::start(8, {
        let client = client.clone();
        move || place::call(&client).retries(0)
    });
    for number in 1..4 {
        servers.push(serve(number, &gate).await);
        script.send(Ok(names(&servers.iter().collect::<Vec<_>>()))).unwrap();
        answer(&client, &(0..=number).collect::<Vec<_>>()).await;
    }
    while servers.len() > 1 {
        let leaving = servers.remove(0);
        script.send(Ok(names(&servers.iter().collect::<Vec<_>>()))).unwrap();
        let left: Vec<_> = (4 - servers.len()..4).collect();
        answer(&client, &left).await;
        leaving.shutdown().await;
    }
    assert!(callers.stop().await > 100);
    client.close().await;
    servers.remove(0).shutdown().await;
}

#[tokio::test]
async fn source_without_endpoints_is_explained() {
    let (script, source) = scripted();
    let connecting = tests::client().connect_timeout(Duration::from_millis(50)).connect_via(source);
    let error = connecting.await.err().unwrap();
    let text = format!("{error:#}");
    assert_eq!((error.kind(), error.endpoint()), (ErrorKind::Disconnected, "script"), "{text}");
    assert!(text.contains("script: it has not answered yet"), "{text}");
    drop(script);

    // One that panics at once is told like any other.
    let (script, source) = scripted();
    script.send(Err("panic")).unwrap();
    let client = tests::client().connect_lazy_via(source).unwrap();
    says(&client, "it has panicked").await;
    let error = place::call(&client).timeout(Duration::from_millis(50)).await.unwrap_err();
    let text = format!("{error:#}");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{text}");
    assert!(text.contains("script: it has panicked: as it was told"), "{text}");
    client.close().await;

    // A call waits for the first answer, even if it is in a hurry.
    let (script, source) = scripted();
    let client = tests::client().connect_lazy_via(source).unwrap();
    let call = tokio::spawn(place::call(&client).fail_fast());
    let patient = place::call(&client).timeout(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!((patient.kind(), patient.ran()), (ErrorKind::DeadlineExceeded, Ran::No));
    assert!(!call.is_finished());
    script.send(Err("it is away")).unwrap();
    let error = soon("the call", call).await.unwrap().unwrap_err();
    let text = format!("{error:#}");
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::No), "{text}");
    assert!(text.contains("script: it is away"), "{text}");
    client.close().await;
}

#[tokio::test]
async fn file_of_endpoints_is_followed() {
    let gate: Arc<Gate> = Arc::default();
    let [a, b] = [serve(0, &gate).await, serve(1, &gate).await];
    let folder = PathBuf::from(ipc().trim_start_matches("ipc://")).with_extension("endpoints");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("list");
    let text = format!("file://{}", path.display());
    let client = tests::client().connect_lazy(&text).unwrap();
    says(&client, "No such file").await;
    fs::write(&path, format!("# the first\n{}\n", a.endpoint())).unwrap();
    answer(&client, &[0]).await;
    says(&client, "").await;
    // Replaced by another, as a deployment does it.
    let next = folder.join("next");
    fs::write(&next, names(&[&a, &b]).join("\n")).unwrap();
    fs::rename(&next, &path).unwrap();
    answer(&client, &[0, 1]).await;
    for (content, failure) in [
        (&b""[..], "no endpoint"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"tcp://:1", "`tcp://:1`, which is no endpoint: the host is missing"),
    ] {
        fs::write(&path, content).unwrap();
        says(&client, failure).await;
        answer(&client, &[0, 1]).await;
    }
    fs::write(&path, b.endpoint()).unwrap();
    answer(&client, &[1]).await;
    fs::remove_file(&path).unwrap();
    says(&client, "No such file").await;
    answer(&client, &[1]).await;
    client.close().await;
    fs::remove_dir_all(&folder).unwrap();
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn names_of_endpoints_are_none_to_listen_on() {
    for (text, hint) in
        [("file:///x", "only a client"), ("dns://x:1", "only a client"), ("etcd://x", "rpc-etcd")]
    {
        let error = builder(&Arc::default()).bind(text).await.unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }
    let error = tests::client().connect("file://x").await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidEndpoint);
    assert!(error.to_string().contains("absolute path"), "{error}");
}

#[tokio::test]
async fn key_goes_to_one_server_from_all_clients() {
    let gate: Arc<Gate> = Arc::default();
    let [a, b, c] = [serve(0, &gate).await, serve(1, &gate).await, serve(2, &gate).await];
    let mut endpoints = names(&[&a, &b, &c]);
    let mut places = Vec::new();
    for _ in 0..3 {
        endpoints.rotate_left(1);
        let client = tests::client().connect(&endpoints).await.unwrap();
        let connected = async {
            let is_up = |client: &Client| {
                let endpoints = client.status().endpoints;
                endpoints.iter().all(|endpoint| endpoint.state == Connectivity::Connected)
            };
            while !is_up(&client) {
                tokio::task::yield_now().await;
            }
        };
        soon("all are connected", connected).await;
        let mut of_keys = Vec::new();
        for key in 0..30 {
            let key = format!("user {key}");
            of_keys.push(place::call(&client).affinity_key(key).await.unwrap());
        }
        places.push(of_keys);
        client.close().await;
    }
    assert!(places.iter().all(|of_keys| *of_keys == places[0]), "{places:?}");
    assert_eq!(BTreeSet::from_iter(places[0].clone()).len(), 3);
    for server in [a, b, c] {
        server.shutdown().await;
    }
}

/// Tells a test what happens to a registration.
struct Told(mpsc::UnboundedSender<String>, Ends);

#[derive(Clone, Copy, PartialEq)]
enum Ends {
    AtWithdrawal,
    Never,
    InPanic,
}

impl Registration for Told {
    async fn run(self, endpoints: Vec<String>, withdrawal: Withdrawal) {
        let Self(told, ends) = self;
        told.send(format!("registered {}", endpoints.join(" "))).unwrap();
        assert!(ends != Ends::InPanic, "as it was told");
        withdrawal.await;
        told.send("withdrawn".to_owned()).unwrap();
        if ends == Ends::Never {
            std::future::pending::<()>().await;
        }
    }
}

#[tokio::test]
async fn server_is_registered_while_it_serves() {
    let gate: Arc<Gate> = Arc::default();
    for ends in [Ends::AtWithdrawal, Ends::Never, Ends::InPanic] {
        for shuts_down in [true, false] {
            let (told, mut tells) = mpsc::unbounded_channel();
            let bound = builder(&gate).bind("tcp://127.0.0.1:0").await.unwrap();
            let server = bound.register(Told(told, ends)).spawn().unwrap();
            let expected = format!("registered {}", server.endpoint());
            assert_eq!(soon("registered", tells.recv()).await.unwrap(), expected);
            let client = tests::client().connect(server.endpoint()).await.unwrap();
            assert_eq!(place::call(&client).await.unwrap(), 0, "a panic does not end the server");
            if shuts_down {
                server.shutdown().await;
            } else {
                drop(server);
            }
            let withdrawn = (ends != Ends::InPanic).then(|| "withdrawn".to_owned());
            assert_eq!(soon("withdrawn", tells.recv()).await, withdrawn);
            client.close().await;
        }
    }
}

/// A source that never waits. It counts how often it is asked.
struct Restless(Arc<AtomicU32>, fn(u32) -> Answer);

type Answer = Result<Vec<String>, DiscoveryError>;

impl Discovery for Restless {
    fn name(&self) -> String {
        "restless".to_owned()
    }

    async fn next(&mut self) -> Result<Vec<String>, DiscoveryError> {
        self.1(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

#[tokio::test]
async fn source_that_never_waits_holds_nobody_up() {
    let gate: Arc<Gate> = Arc::default();
    let server = serve(0, &gate).await;
    // All clients of a process share a thread.
    let other = tests::client().connect(server.endpoint()).await.unwrap();
    let lists: [fn(u32) -> Answer; 3] = [
        |_| Ok(vec!["tcp://127.0.0.1:1".to_owned()]),
        |_| Err("it is not there".into()),
        |turn| Ok(vec![format!("tcp://127.0.0.1:{}", 1 + turn % 2)]),
    ];
    for list in lists {
        let asked = Arc::new(AtomicU32::new(0));
        let (begin, source) = (Instant::now(), Restless(Arc::clone(&asked), list));
        let client = tests::client().connect_timeout(Duration::from_millis(200));
        let connecting = soon("connecting ends", client.connect_via(source).into_future());
        assert!(connecting.await.is_err());
        assert_eq!(soon("the other client", place::call(&other).into_future()).await.unwrap(), 0);
        let most = begin.elapsed().as_millis() / 10 + 2;
        let asked = asked.load(Ordering::Relaxed);
        assert!(u128::from(asked) <= most, "{asked} times, and not {most}");
    }
    other.close().await;
    server.shutdown().await;
}
