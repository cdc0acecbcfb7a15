//! Calls that succeed.

use std::{collections::BTreeMap, sync::Arc, thread};

use bytes::Bytes;
use futures_util::FutureExt;
use rpc_core::{Args, Client, RemoteFn};
use tests::{Gate, PATIENCE, endpoints, soon};
use tokio::runtime::Handle;

use crate::functions::{
    Fixture, add, builder, count_words, divide, divide_async, echo, hold, hold_async, note, noted,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_function_works_over_every_transport() {
    for endpoint in endpoints() {
        let fixture = Fixture::over(&endpoint).await;
        let client = &fixture.client;
        assert_eq!(add::call(client, 1, 2).await.unwrap(), 3);
        let data = Bytes::from_static(b"\0\xff");
        assert_eq!(echo::call(client, data.clone()).await.unwrap(), data);
        let counts = count_words::call(client, "a b a").await.unwrap();
        assert_eq!(counts, BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]));
        assert_eq!(divide::call(client, 6, 3).await.unwrap(), 2);
        assert_eq!(divide_async::call(client, 6, 3).await.unwrap(), 2);
        fixture.end().await;
    }
}

#[tokio::test]
async fn the_function_itself_stays_callable() {
    assert_eq!(add(1, 2), 3);
    assert_eq!(count_words("a")["a"], 1);
}

#[tokio::test]
async fn reply_does_not_wait_for_the_next_function() {
    let gate: Arc<Gate> = Arc::default();
    for endpoint in endpoints() {
        let server = builder(&gate).workers(1).bind(endpoint).await.unwrap().spawn().unwrap();
        // The long timeout means that the client sends no pings. A ping would wake the event loop
        // and hide a missing wakeup.
        let client = tests::client()
            .keepalive_timeout(2 * PATIENCE)
            .connect(server.endpoint())
            .await
            .unwrap();
        for quick in 1..10 {
            // All of these calls queue for the one worker: first the quick ones, then one that
            // blocks.
            let mut calls: Vec<_> =
                (0..quick).map(|_| Box::pin(divide::call(&client, 6, 3))).collect();
            let mut held = Box::pin(hold::call(&client));
            for call in &mut calls {
                assert!(call.as_mut().now_or_never().is_none());
            }
            assert!(held.as_mut().now_or_never().is_none());
            for call in calls {
                assert_eq!(soon("a reply", call).await.unwrap(), 2);
            }
            gate.entered(1).await;
            drop(held);
            gate.left(1).await;
        }
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_and_threads_share_one_client() {
    let fixture = Fixture::tcp().await;
    let tasks: Vec<_> = (0..100)
        .map(|task| {
            let client = fixture.client.clone();
            tokio::spawn(async move {
                for n in 0..100 {
                    assert_eq!(add::call(&client, task, n).await.unwrap(), task + n);
                }
            })
        })
        .collect();
    let runtime = Handle::current();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (client, runtime) = (fixture.client.clone(), runtime.clone());
            thread::spawn(move || {
                for n in 0..100 {
                    let data = Bytes::from(vec![7; n]);
                    assert_eq!(runtime.block_on(echo::call(&client, data.clone())).unwrap(), data);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let joined = tokio::task::spawn_blocking(|| {
        threads.into_iter().map(thread::JoinHandle::join).all(|joined| joined.is_ok())
    });
    assert!(joined.await.unwrap());
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn async_functions_run_concurrently() {
    let fixture = Fixture::tcp().await;
    let calls: Vec<_> = (0..64).map(|_| tokio::spawn(hold_async::call(&fixture.client))).collect();
    // All 64 functions must have started before any of them may end.
    fixture.gate.entered(64).await;
    fixture.gate.open();
    for call in calls {
        assert!(call.await.unwrap().unwrap());
    }
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_workers_do_not_delay_inline_or_ping() {
    let fixture = Fixture::tcp().await;
    let calls: Vec<_> = (0..8).map(|_| tokio::spawn(hold::call(&fixture.client))).collect();
    fixture.gate.entered(2).await;
    assert_eq!(soon("add", add::call(&fixture.client, 1, 1)).await.unwrap(), 2);
    soon("ping", fixture.client.ping()).await.unwrap();
    assert_eq!(fixture.gate.unseen(), 0, "there are two workers");
    fixture.gate.open();
    for call in calls {
        assert!(call.await.unwrap().unwrap());
    }
    fixture.end().await;
}

#[tokio::test]
async fn a_call_is_lazy() {
    let fixture = Fixture::inproc().await;
    drop(note::call(&fixture.client, "never".to_owned()));
    drop(note::notify(&fixture.client, "never".to_owned()));
    note::call(&fixture.client, "once".to_owned()).await.unwrap();
    assert_eq!(noted::call(&fixture.client).await.unwrap(), ["once"]);
    fixture.end().await;
}

#[tokio::test]
async fn a_notification_runs() {
    for endpoint in endpoints() {
        let fixture = Fixture::over(&endpoint).await;
        note::notify(&fixture.client, "seen".to_owned()).await.unwrap();
        // The notification was sent before the call to `noted`. Two workers may still run them in
        // the other order, so the test asks again.
        let seen = async {
            while noted::call(&fixture.client).await.unwrap() != ["seen"] {
                tokio::task::yield_now().await;
            }
        };
        soon("the notification runs", seen).await;
        fixture.end().await;
    }
}

#[tokio::test]
async fn a_function_can_be_called_by_name() {
    let fixture = Fixture::tcp().await;
    let client = &fixture.client;
    assert_eq!(client.call_dynamic::<i64>("add", (1, 2)).await.unwrap(), 3);
    assert_eq!(client.call_dynamic::<i64>("add", [1, 2]).await.unwrap(), 3);
    assert_eq!(
        client.call_dynamic::<i64>("add", BTreeMap::from([("b", 2), ("a", 1)])).await.unwrap(),
        3
    );
    #[derive(serde::Serialize)]
    struct Named {
        b: i64,
        a: i64,
    }
    assert_eq!(client.call_dynamic::<i64>("divide", Named { b: 3, a: 6 }).await.unwrap(), 2);
    assert_eq!(
        client.call_dynamic::<Vec<String>>("noted", ()).await.unwrap(),
        Vec::<String>::new()
    );
    client.call_dynamic::<()>("note", ("x",)).await.unwrap();
    fixture.end().await;
}

#[tokio::test]
async fn generic_code_can_call_any_function() {
    async fn call_twice<F: RemoteFn>(
        client: &Client,
        args: Args<F>,
    ) -> Vec<Result<F::Output, F::Error>> {
        assert!(F::SIGNATURE.idempotent);
        vec![client.call(args.clone()).await, client.call(args).await]
    }
    let fixture = Fixture::inproc().await;
    let results = call_twice(&fixture.client, add::args(2, 3)).await;
    assert!(results.into_iter().all(|result| result.unwrap() == 5));
    fixture.end().await;
}

#[tokio::test]
async fn server_listens_on_several_endpoints() {
    let gate = Arc::default();
    let asked = [endpoints().to_vec(), vec!["tcp://*:*".to_owned()]].concat();
    let server = crate::functions::builder(&gate).bind(&asked).await.unwrap().spawn().unwrap();
    assert_eq!(server.endpoints().len(), 4);
    for endpoint in server.endpoints() {
        let client =
            tests::client().connect(endpoint.replace("0.0.0.0", "127.0.0.1")).await.unwrap();
        assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
        client.close().await;
    }
    server.shutdown().await;
}

#[tokio::test]
async fn ipv6_and_host_names_work() {
    for endpoint in ["tcp://[::1]:0", "tcp://localhost:0"] {
        let fixture = Fixture::over(endpoint).await;
        let prefix = endpoint.trim_end_matches('0');
        assert!(fixture.server.endpoint().starts_with(prefix), "{}", fixture.server.endpoint());
        assert_eq!(add::call(&fixture.client, 1, 2).await.unwrap(), 3);
        fixture.end().await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn client_runs_on_its_callers_runtime() {
    for endpoint in endpoints() {
        let gate = Arc::default();
        let server =
            crate::functions::builder(&gate).bind(&endpoint).await.unwrap().spawn().unwrap();
        let client =
            tests::client().use_current_runtime().connect(server.endpoint()).await.unwrap();
        for n in 0..100 {
            assert_eq!(add::call(&client, n, 1).await.unwrap(), n + 1);
        }
        client.close().await;
        server.shutdown().await;
    }
}
