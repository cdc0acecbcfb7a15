//! The remote functions that most tests call, and a server that serves them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicUsize},
};

use bytes::Bytes;
use rpc_core::{Client, Context, ErrorKind, ServerBuilder, ServerHandle, remote};
use serde::{Deserialize, Serialize};
use tests::Gate;

#[remote(inline, idempotent)]
pub(crate) fn add(a: i64, b: i64) -> i64 {
    a + b
}

/// Gives back what it is given.
#[remote]
pub(crate) fn echo(data: Bytes) -> Bytes {
    data
}

#[remote]
pub(crate) fn count_words(text: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word.to_owned()).or_default() += 1;
    }
    counts
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum DivideError {
    #[error("division of {0} by zero")]
    ByZero(i64),
}

#[remote]
pub(crate) fn divide(a: i64, b: i64) -> Result<i64, DivideError> {
    a.checked_div(b).ok_or(DivideError::ByZero(a))
}

#[remote]
pub(crate) async fn divide_async(a: i64, b: i64) -> Result<i64, DivideError> {
    tokio::task::yield_now().await;
    divide(a, b)
}

#[remote]
pub(crate) fn crash() {
    panic!("as it was asked to");
}

#[remote]
pub(crate) async fn crash_async(text: String) -> u8 {
    tokio::task::yield_now().await;
    panic!("{text}");
}

#[remote(inline)]
pub(crate) fn crash_inline() -> u8 {
    panic!("inline");
}

/// A sync function that runs until the gate opens or the call is cancelled. Returns `true` if the
/// gate is open.
#[remote]
pub(crate) fn hold(#[state] gate: &Gate, #[context] cx: &Context) -> bool {
    let _inside = gate.enter();
    gate.pass(|| cx.is_cancelled())
}

/// An async function that runs until the gate opens.
#[remote]
pub(crate) async fn hold_async(#[state] gate: Arc<Gate>) -> bool {
    let _inside = gate.enter();
    gate.pass_async().await;
    true
}

/// Works like `hold`, but ignores cancellation.
#[remote]
pub(crate) fn hold_stubbornly(#[state] gate: &Gate) -> bool {
    let _inside = gate.enter();
    gate.pass(|| false)
}

/// The texts that the server received through [`note`].
#[derive(Debug, Default)]
pub(crate) struct Notes(pub(crate) Mutex<Vec<String>>);

#[remote]
pub(crate) fn note(#[state] notes: &Notes, text: String) {
    notes.0.lock().expect("nothing panics while it is held").push(text);
}

#[remote]
pub(crate) fn noted(#[state] notes: &Notes) -> Vec<String> {
    notes.0.lock().expect("nothing panics while it is held").clone()
}

/// Returns the metadata of the call.
#[remote(idempotent)]
pub(crate) fn metadata(#[context] cx: &Context) -> Vec<String> {
    let show = |name| {
        let bytes = cx.metadata_bytes(name).expect("it has the name");
        format!("{name}={}", String::from_utf8_lossy(bytes))
    };
    cx.metadata_names().map(show).collect()
}

/// Counts the items that functions have made, and the functions that were dropped.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) items: AtomicUsize,
    pub(crate) dropped: AtomicUsize,
    /// The client of a server that calls itself.
    pub(crate) client: OnceLock<Client>,
    /// The errors with which streams among arguments ended.
    pub(crate) ends: Mutex<Vec<ErrorKind>>,
}

/// The number of this server among several.
#[derive(Debug, Default)]
pub(crate) struct Which(pub(crate) usize);

/// The client that the functions of a server use for nested calls.
#[derive(Debug, Default)]
pub(crate) struct Inner(pub(crate) OnceLock<Client>);

/// Returns a builder for a server with the state that these functions need.
pub(crate) fn builder(gate: &Arc<Gate>) -> ServerBuilder {
    tests::server()
        .shared_state(Arc::clone(gate))
        .state(Notes::default())
        .state(Inner::default())
        .state(Which::default())
        .state(Made::default())
        .workers(2)
}

/// A server and a client that is connected to it.
pub(crate) struct Fixture {
    pub(crate) client: Client,
    pub(crate) server: ServerHandle,
    pub(crate) gate: Arc<Gate>,
}

impl Fixture {
    pub(crate) async fn over(endpoint: &str) -> Self {
        let gate = Arc::new(Gate::default());
        let server = builder(&gate).bind(endpoint).await.unwrap().spawn().unwrap();
        let client = tests::client().connect(server.endpoint()).await.unwrap();
        Self { client, server, gate }
    }

    pub(crate) async fn inproc() -> Self {
        Self::over(&format!("inproc://{}", tests::unique())).await
    }

    pub(crate) async fn tcp() -> Self {
        Self::over("tcp://127.0.0.1:0").await
    }

    /// Opens the gate for every function, closes the client and shuts the server down.
    pub(crate) async fn end(self) {
        self.gate.open();
        self.client.close().await;
        self.server.shutdown().await;
    }
}
