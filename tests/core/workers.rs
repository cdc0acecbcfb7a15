//! Sync functions that block: the workers of a server, and functions that wait for calls themselves.

use std::{
    collections::BTreeMap,
    sync::{Barrier, LazyLock, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use rpc_core::{Client, ErrorKind, Server, remote};
use tests::{PATIENCE, soon};

/// The number of calls that meet in `meet`, which is more than this machine has cores.
const MEETING: usize = 40;

/// Blocks until [`MEETING`] calls are here.
#[remote]
fn meet() -> bool {
    static BARRIER: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(MEETING));
    BARRIER.wait();
    true
}

/// The clients of the servers of these tests, by endpoint.
static CLIENTS: Mutex<BTreeMap<String, Client>> = Mutex::new(BTreeMap::new());

fn client_of(endpoint: &str) -> Client {
    CLIENTS.lock().unwrap()[endpoint].clone()
}

/// Calls itself on its own server, and waits.
#[remote]
fn recurse(endpoint: &str, depth: u32, timeout: Duration) -> Result<u32, String> {
    if depth == 0 {
        return Ok(0);
    }
    match recurse::call(&client_of(endpoint), endpoint, depth - 1, timeout).timeout(timeout).wait()
    {
        Ok(below) => Ok(below + 1),
        Err(error) => Err(error.to_string()),
    }
}

/// Waits on the I/O thread, which it must not.
#[remote(inline)]
fn wait_inline(endpoint: &str) -> String {
    let error = recurse::call(&client_of(endpoint), endpoint, 0, PATIENCE).wait().unwrap_err();
    let kind = error.rpc().unwrap().kind();
    assert_eq!(kind, ErrorKind::WrongThread);
    error.to_string()
}

/// Waits a little, as for a database.
#[remote]
fn query() {
    std::thread::sleep(Duration::from_millis(5));
}

async fn serve(workers: Option<usize>) -> (rpc_core::ServerHandle, Client) {
    let endpoint = tests::ipc();
    let client = tests::client().connect_lazy(&endpoint).unwrap();
    let mut builder = Server::builder().serve::<meet>().serve::<recurse>().serve::<wait_inline>();
    builder = builder.serve::<query>();
    if let Some(workers) = workers {
        builder = builder.workers(workers);
    }
    CLIENTS.lock().unwrap().insert(endpoint.clone(), client.clone());
    (builder.bind(endpoint).await.unwrap().spawn().unwrap(), client)
}

#[tokio::test]
async fn workers_are_added_while_functions_block() {
    let (server, client) = serve(None).await;
    let calls = join_all((0..MEETING).map(|_| meet::call(&client)));
    for met in soon("the calls meet", calls).await {
        assert!(met.unwrap());
    }
    server.shutdown().await;
}

#[tokio::test]
async fn sync_function_may_call_its_own_server() {
    let (server, client) = serve(None).await;
    assert_eq!(
        soon("the calls", recurse::call(&client, server.endpoint(), 20, PATIENCE)).await.unwrap(),
        20
    );
    server.shutdown().await;
}

#[tokio::test]
async fn deadlock_of_a_fixed_number_of_workers_is_explained() {
    let (server, client) = serve(Some(2)).await;
    let timeout = Duration::from_millis(300);
    let error = soon("the call", recurse::call(&client, server.endpoint(), 2, timeout)).await;
    let text = error.unwrap_err().failed().unwrap();
    assert!(text.contains("all 2 workers of this process waited for calls"), "{text}");
    let again = recurse::call(&client, server.endpoint(), 1, PATIENCE);
    assert_eq!(soon("it works again", again).await.unwrap(), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn waiting_on_an_io_thread_is_refused() {
    let (server, client) = serve(None).await;
    let text = soon("the call", wait_inline::call(&client, server.endpoint())).await.unwrap();
    assert!(text.contains("I/O thread"), "{text}");
    server.shutdown().await;
}

#[tokio::test]
async fn pool_grows_for_functions_that_wait_only_a_little() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let (server, client) = serve(None).await;
    let calls = 1_000 * cores;
    let begin = std::time::Instant::now();
    let all = soon("all queries", join_all((0..calls).map(|_| query::call(&client)))).await;
    assert!(all.iter().all(Result::is_ok));
    // With one thread for each core, this would take five seconds.
    assert!(begin.elapsed() < Duration::from_millis(2_500), "{:?}", begin.elapsed());
    client.close().await;
    server.shutdown().await;
}
