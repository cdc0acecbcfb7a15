//! The set of served functions, the errors that keep a server from starting, and the description
//! that a server gives of itself.

use std::{future::Future as _, sync::Arc};

use handlers as _;
use rpc_core::{ErrorKind, Ran, ServeError, remote};
use tests::{Gate, endpoints, unique};

use crate::functions::{Fixture, add, builder, divide, hold};

#[tokio::test]
async fn functions_of_a_linked_crate_are_served() {
    let fixture = Fixture::tcp().await;
    let name = handlers::from_another_crate::call(&fixture.client).await.unwrap();
    assert_eq!(name, "handlers");
    fixture.end().await;
}

#[tokio::test]
async fn a_subset_can_be_served() {
    let chosen = tests::server().serve::<add>().serve::<divide>();
    let server = chosen.bind(format!("inproc://{}", unique())).await.unwrap();
    let names: Vec<_> = server.functions().iter().map(|function| function.name).collect();
    assert_eq!(names, ["add", "divide"]);
    let server = server.spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
    let error = client.call_dynamic::<()>("crash", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownFunction);
    server.shutdown().await;
}

#[tokio::test]
async fn missing_state_error_names_function_and_type() {
    let server = tests::server().serve::<hold>().bind(format!("inproc://{}", unique())).await;
    let text = server.unwrap_err().to_string();
    assert!(text.contains("`hold`") && text.contains("tests::Gate"), "{text}");
}

#[tokio::test]
async fn bind_error_names_the_endpoint() {
    let gate = Arc::default();
    for endpoint in endpoints() {
        let first = builder(&gate).bind(&endpoint).await.unwrap();
        let error = builder(&gate).bind(first.endpoint()).await.unwrap_err();
        assert!(matches!(error, ServeError::Bind { .. }), "{error}");
        assert!(error.to_string().contains(first.endpoint()), "{error}");
    }
    for endpoint in ["tcp://127.0.0.1", "ipc://*", "nonsense"] {
        let error = builder(&gate).bind(endpoint).await.unwrap_err();
        assert!(matches!(error, ServeError::InvalidEndpoint { .. }), "{error}");
    }
    let none: [&str; 0] = [];
    assert!(builder(&gate).bind(none).await.is_err());
}

#[test]
fn binding_outside_a_runtime_is_refused() {
    let bind = tests::server().bind("inproc://nowhere");
    let waker = std::task::Waker::noop();
    let bound = std::pin::pin!(bind).poll(&mut std::task::Context::from_waker(waker));
    assert!(matches!(bound, std::task::Poll::Ready(Err(ServeError::NoRuntime))));
}

#[tokio::test]
async fn stale_socket_file_is_taken_over() {
    let endpoint = tests::ipc();
    let path = endpoint.strip_prefix("ipc://").unwrap();
    // A listener that closes without removing its socket file, as a killed process does.
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    let fixture = Fixture::over(&endpoint).await;
    assert_eq!(add::call(&fixture.client, 1, 2).await.unwrap(), 3);
    fixture.end().await;
    assert!(!std::path::Path::new(path).exists(), "the file goes with the server");
}

#[tokio::test]
async fn stopping_server_keeps_its_successors_file() {
    let endpoint = tests::ipc();
    let path = endpoint.strip_prefix("ipc://").unwrap();
    let old = Fixture::over(&endpoint).await;
    std::fs::remove_file(path).unwrap();
    let new = Fixture::over(&endpoint).await;
    old.end().await;
    let client = tests::client().connect(&endpoint).await.unwrap();
    assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
    new.end().await;
}

#[tokio::test]
async fn regular_file_at_an_ipc_path_is_kept() {
    let endpoint = tests::ipc();
    let path = endpoint.strip_prefix("ipc://").unwrap();
    std::fs::write(path, "precious").unwrap();
    let error = builder(&Arc::default()).bind(&endpoint).await.unwrap_err();
    assert!(matches!(error, ServeError::Bind { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
    std::fs::remove_file(path).unwrap();
}

/// Describes itself.
///
/// In two paragraphs.
#[remote(name = "self.describe", idempotent, timeout = "2s")]
async fn describe(first: Option<Vec<u8>>, r#type: &str) -> Result<String, String> {
    Ok(format!("{first:?} {type}"))
}

#[tokio::test]
async fn discover_returns_every_function_detail() {
    let server = tests::server().serve::<add>().serve::<describe>();
    let server = server.bind(format!("inproc://{}", unique())).await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let service = client.discover().await.unwrap();
    assert_eq!((service.protocol, service.max_message_size), (1, 16 * 1024 * 1024));
    assert_eq!(service.instance.len(), 32);
    let [add, described] = service.functions.as_slice() else { panic!("{:?}", service.functions) };
    assert_eq!(
        (add.name.as_str(), add.kind.as_str(), add.result.as_str()),
        ("add", "inline", "i64")
    );
    assert_eq!(described.name, "self.describe");
    assert_eq!(described.doc, "Describes itself.\n\nIn two paragraphs.");
    let params: Vec<_> = described.params.iter().map(|param| (&*param.name, &*param.ty)).collect();
    assert_eq!(params, [("first", "Option<Vec<u8>>"), ("type", "&str")]);
    assert_eq!((described.result.as_str(), described.kind.as_str()), ("String", "async"));
    assert_eq!(described.error.as_deref(), Some("alloc::string::String"));
    assert_eq!((described.idempotent, described.timeout_ms), (true, Some(2_000)));
    server.shutdown().await;
}

/// Declared here, and implemented nowhere.
#[remote]
fn only_declared();

#[remote]
fn linked_but_not_served() {}

#[tokio::test]
async fn missing_function_says_why_it_is_missing() {
    let gate: Arc<Gate> = Arc::default();
    let endpoint = format!("inproc://{}", unique());
    let server = builder(&gate).serve::<add>().bind(&*endpoint).await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let text = async |name: &str| {
        let error = client.call_dynamic::<()>(name, ()).await.unwrap_err();
        assert_eq!((error.kind(), error.ran()), (ErrorKind::UnknownFunction, Ran::No));
        error.message().to_owned()
    };
    let declared = text("only_declared").await;
    assert!(declared.contains("has only its declaration: link the crate"), "{declared}");
    assert!(!declared.contains(".rs"), "{declared}");
    let linked = text("linked_but_not_served").await;
    assert!(linked.contains("with `.serve::<function>()`"), "{linked}");
    let near = text("ad").await;
    assert!(near.ends_with("did you mean `add`?"), "{near}");
    let unknown = text("qqq").await;
    assert!(unknown.contains("`use that_crate as _;`"), "{unknown}");
    server.shutdown().await;
}

#[test]
fn shutdown_needs_no_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let gate: Arc<Gate> = Arc::default();
    let bound = builder(&gate).serve::<add>().bind(format!("inproc://{}", unique()));
    let server = runtime.block_on(bound).unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).wait().unwrap();
    assert_eq!(add::call(&client, 1, 2).wait().unwrap(), 3);
    futures_util::FutureExt::now_or_never(client.close());
    let mut shutdown = std::pin::pin!(server.shutdown());
    let (waker, until) = (std::task::Waker::noop(), std::time::Instant::now() + tests::PATIENCE);
    while shutdown.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending() {
        assert!(std::time::Instant::now() < until, "it never ends");
        std::thread::yield_now();
    }
}
