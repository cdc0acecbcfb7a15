//! Callers that drop a call, and clients that disappear while their calls run.

use bytes::Bytes;
use tests::{RawClient, endpoints, soon};

use crate::functions::{Fixture, builder, hold, hold_async, note, noted};

#[tokio::test]
async fn dropping_a_call_drops_an_async_function() {
    for endpoint in endpoints() {
        let fixture = Fixture::over(&endpoint).await;
        let call = tokio::spawn(hold_async::call(&fixture.client));
        fixture.gate.entered(1).await;
        call.abort();
        fixture.gate.left(1).await;
        fixture.end().await;
    }
}

#[tokio::test]
async fn dropping_a_call_signals_a_sync_function() {
    let fixture = Fixture::tcp().await;
    let call = tokio::spawn(hold::call(&fixture.client));
    fixture.gate.entered(1).await;
    call.abort();
    fixture.gate.left(1).await;
    fixture.end().await;
}

#[tokio::test]
async fn call_dropped_while_queued_never_runs() {
    let fixture = Fixture::tcp().await;
    let busy: Vec<_> = (0..2).map(|_| tokio::spawn(hold::call(&fixture.client))).collect();
    fixture.gate.entered(2).await;
    let waiting = tokio::spawn(note::call(&fixture.client, "never".to_owned()));
    // The ping is sent after the request, so the server has read the request when it answers the
    // ping.
    tokio::task::yield_now().await;
    fixture.client.ping().await.unwrap();
    waiting.abort();
    let _ = waiting.await;
    fixture.client.ping().await.unwrap();
    fixture.gate.open();
    for call in busy {
        assert!(call.await.unwrap().unwrap());
    }
    assert_eq!(noted::call(&fixture.client).await.unwrap(), Vec::<String>::new());
    fixture.end().await;
}

#[tokio::test]
async fn cancelled_request_is_still_answered() {
    let fixture = Fixture::tcp().await;
    let mut raw = RawClient::connect(fixture.server.endpoint()).await;
    raw.send(&[b"", b"\x94\x00\x07\xaahold_async\x90"]).await;
    fixture.gate.entered(1).await;
    let reply = raw.ask(b"\x93\x02\xaarpc.cancel\x91\x07").await;
    assert!(reply.starts_with(b"\x94\x01\xce\0\0\0\x07"), "{reply:?}");
    assert!(reply.windows(9).any(|part| part == b"cancelled"), "{reply:?}");
    fixture.gate.left(1).await;
    fixture.end().await;
}

#[tokio::test]
async fn vanished_client_cancels_its_requests() {
    for endpoint in endpoints() {
        let fixture = Fixture::over(&endpoint).await;
        let client = tests::client().connect(fixture.server.endpoint()).await.unwrap();
        let calls = [tokio::spawn(hold::call(&client)), tokio::spawn(hold::call(&client))];
        let running = tokio::spawn(hold_async::call(&client));
        fixture.gate.entered(3).await;
        // Both workers are busy, so this call waits in the queue, and so does the notification.
        let waiting = tokio::spawn(note::call(&client, "called".to_owned()));
        note::notify(&client, "notified".to_owned()).await.unwrap();
        client.ping().await.unwrap();

        client.close().await;
        fixture.gate.left(3).await;
        assert!(waiting.await.unwrap().is_err());
        assert!(running.await.unwrap().is_err());
        for call in calls {
            assert!(call.await.unwrap().is_err());
        }
        let seen = async {
            while noted::call(&fixture.client).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        soon("the notification runs", seen).await;
        assert_eq!(noted::call(&fixture.client).await.unwrap(), ["notified"]);
        fixture.end().await;
    }
}

#[tokio::test]
async fn cancelling_many_calls_leaves_the_server_free() {
    let gate = std::sync::Arc::default();
    let server =
        builder(&gate).max_in_flight(100).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    for _ in 0..20 {
        let calls: Vec<_> = (0..50).map(|_| tokio::spawn(hold_async::call(&client))).collect();
        gate.entered(50).await;
        for call in calls {
            call.abort();
        }
        gate.left(50).await;
    }
    let data = Bytes::from_static(b"still there");
    let echoed = crate::functions::echo::call(&client, data.clone()).await.unwrap();
    assert_eq!(echoed, data);
    server.shutdown().await;
}
