//! The queue is full, or nobody takes from it.

use std::time::Duration;

use rpc_core::{CallError, Client, ErrorKind, Ran};
use tests::{ledger::Ledger, served::count, soon};

use crate::{BROKER, server, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn full_queue_is_overloaded() {
    let endpoint = format!("{}&max_length=20&prefetch=1", BROKER.endpoint());
    let ledger = Ledger::new();
    let mut away = server(&endpoint, &["--ledger", ledger.path()]);
    away.terminate();
    soon("the server ends", away.ended()).await;
    let client = Client::builder().retries(0).connect(&endpoint).await.unwrap();
    // RabbitMQ is exact only for one message after the other.
    let mut stored = 0;
    let refused = soon("the queue is full", async {
        loop {
            match count::notify(&client, stored + 1, 0).await {
                Ok(()) => stored += 1,
                Err(error) => return error,
            }
        }
    })
    .await;
    assert!((20..30).contains(&stored), "{stored} are stored");
    assert_eq!((refused.kind(), refused.ran()), (ErrorKind::Overloaded, Ran::No), "{refused}");
    assert!(refused.to_string().contains("is full"), "{refused}");
    let error = count::call(&client, 1_000, 0).await.unwrap_err();
    let CallError::Rpc(error) = error else { panic!("nobody serves") };
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Overloaded, Ran::No), "{error}");
    away.restart();
    until("what is stored runs", async || ledger.executions().len() as u64 == stored).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn deleted_queue_is_told_at_once() {
    let endpoint = BROKER.endpoint();
    let mut away = server(&endpoint, &[]);
    let client = Client::connect(&endpoint).await.unwrap();
    away.terminate();
    soon("the server ends", away.ended()).await;
    let queue = endpoint.split_once("?queue=").unwrap().1;
    let _ = BROKER.ctl(&["delete_queue", queue]);
    let call = count::call(&client, 1, 0).timeout(Duration::from_secs(50)).fail_fast();
    let Err(CallError::Rpc(error)) = soon("the error", call).await else {
        panic!("it has no queue")
    };
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::No));
    assert!(error.to_string().contains("no queue"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn queue_that_is_deleted_is_made_again() {
    let endpoint = BROKER.endpoint();
    let ledger = Ledger::new();
    let _server = server(&endpoint, &["--ledger", ledger.path()]);
    let client = Client::connect(&endpoint).await.unwrap();
    assert_eq!(count::call(&client, 1, 0).await.unwrap(), 1);
    let queue = endpoint.split_once("?queue=").unwrap().1;
    let _ = BROKER.ctl(&["delete_queue", queue]);
    until("the server makes it again", async || {
        count::call(&client, 2, 0).timeout(Duration::from_secs(2)).await.is_ok()
    })
    .await;
}
