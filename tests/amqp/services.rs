//! Ordinary calls: everything that works over sockets works through a broker.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use rpc_core::{CallError, Client, ErrorKind, Ran};
use tests::{
    ledger::Ledger,
    served::{block_ms, count, double, double_later, echo, sum},
    soon,
};

use crate::{BROKER, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn functions_work_through_a_broker() {
    let endpoint = BROKER.endpoint();
    let ledger = Ledger::new();
    let _server = server(&endpoint, &["--ledger", ledger.path()]);
    let client = Client::connect(&endpoint).await.unwrap();
    soon("calls of every kind", async {
        assert_eq!(sum::call(&client, 2, 3).await.unwrap(), 5);
        assert_eq!(double::call(&client, 21).await.unwrap(), Some(42));
        assert_eq!(double_later::call(&client, 21, 5).await.unwrap(), 42);
        // Longer than a frame of AMQP.
        let long = Bytes::from(vec![7; 3_000_000]);
        assert_eq!(echo::call(&client, long.clone()).await.unwrap(), long);
        let refused = count::call(&client, 97, 0).await.unwrap_err();
        assert!(matches!(refused, CallError::Failed(text) if text == "97 is refused"));
        let unknown = client.call_dynamic::<()>("no_such", ()).await.unwrap_err();
        assert_eq!((unknown.kind(), unknown.ran()), (ErrorKind::UnknownFunction, Ran::No));
        client.ping().await.unwrap();
        let functions = client.discover().await.unwrap().functions;
        assert!(functions.iter().any(|function| function.name == "double_later"));
    })
    .await;
    let slow = block_ms::call(&client, 500).timeout(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(slow.kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn two_services_share_a_broker() {
    let calls = async |endpoint: String| {
        let _server = server(&endpoint, &[]);
        let client = Client::connect(&endpoint).await.unwrap();
        for first in (0..20_000).step_by(2_000) {
            let batch = (first..first + 2_000).map(|n| sum::call(&client, n, 1));
            let sums = soon("2,000 calls", try_join_all(batch)).await.unwrap();
            assert!(sums.into_iter().eq(first + 1..=first + 2_000));
        }
    };
    let packed = format!("{}&pack=64", BROKER.endpoint());
    futures_util::future::join(calls(BROKER.endpoint()), calls(packed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn expired_requests_never_start() {
    let endpoint = BROKER.endpoint();
    let ledger = Ledger::new();
    let mut started = server(&endpoint, &["--ledger", ledger.path()]);
    let client = Client::connect(&endpoint).await.unwrap();
    started.terminate();
    soon("the server ends", started.ended()).await;
    let call = |id| count::call(&client, id, 0).timeout(Duration::from_millis(100));
    for error in futures_util::future::join_all((1..=20).map(call)).await {
        let Err(CallError::Rpc(error)) = error else { panic!("nobody answers: {error:?}") };
        assert_eq!((error.kind(), error.ran()), (ErrorKind::DeadlineExceeded, Ran::Maybe));
    }
    started.restart();
    assert_eq!(count::call(&client, 1_000, 0).await.unwrap(), 1_000);
    assert_eq!(ledger.executions(), [(1_000, 1)].into());
}
