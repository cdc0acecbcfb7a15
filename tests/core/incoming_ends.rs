//! Calls that pass a stream, and that end before it does.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream};
use rpc_core::{CallError, ErrorKind, Incoming, Ran, remote};
use tests::{Gate, endpoints, soon};

use crate::{
    functions::{Made, builder},
    incoming::{Counted, lazy, start, total},
};

#[remote]
async fn first(mut numbers: Incoming<u64>) -> Option<u64> {
    numbers.next().await?.ok()
}

#[remote]
async fn crashes_after(count: u32, mut numbers: Incoming<u64>) -> u64 {
    for _ in 0..count {
        numbers.next().await;
    }
    panic!("as it was asked to");
}

#[tokio::test]
async fn answer_ends_the_stream_early() {
    for endpoint in endpoints() {
        let (server, client, made) = start(&endpoint, &Arc::default()).await;
        assert_eq!(first::call(&client, stream::repeat(7)).await.unwrap(), Some(7));
        // One that waits for an item, and gets no more.
        let numbers = stream::iter([3]).chain(stream::pending());
        assert_eq!(soon("first", first::call(&client, numbers)).await.unwrap(), Some(3));
        let numbers = Counted { made: Arc::clone(&made), size: 1 };
        let error = crashes_after::call(&client, 3, numbers.map(|_| 1)).await.unwrap_err();
        assert_eq!((error.kind(), error.ran()), (ErrorKind::Panicked, Ran::Yes), "{error}");
        assert_eq!(made.dropped.load(Ordering::SeqCst), 1);
        client.close().await;
        server.shutdown().await;
    }
}

#[remote]
async fn silent(mut numbers: Incoming<u64>) -> Result<u64, String> {
    numbers.next().await.unwrap().map_err(|error| error.to_string())
}

#[remote]
fn silent_sync(numbers: Incoming<u64>) -> Result<u64, String> {
    numbers.wait().next().unwrap().map_err(|error| error.to_string())
}

#[tokio::test]
async fn silent_caller_ends_the_stream() {
    let server = builder(&Arc::default()).stream_idle_timeout(Duration::from_millis(50));
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    for call in [
        silent::call(&client, stream::pending()).into_future().boxed(),
        silent_sync::call(&client, stream::pending()).into_future().boxed(),
    ] {
        let Err(CallError::Failed(error)) = soon("the call", call).await else { panic!() };
        assert!(error.contains("the caller has sent nothing for 50ms"), "{error}");
    }
    client.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn deadline_of_an_upload() {
    let gate = Arc::<Gate>::default();
    let (server, client, _) = start("tcp://127.0.0.1:0", &gate).await;
    let short = Duration::from_millis(100);
    // A limit of the whole call.
    let error = total::call(&client, stream::pending()).timeout(short).await.unwrap_err();
    let CallError::Rpc(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    assert!(error.message().contains("it had 100ms, the timeout of this call"), "{error}");
    client.close().await;
    // The server takes nothing.
    let client =
        tests::client().stream_idle_timeout(short).connect(server.endpoint()).await.unwrap();
    let error = lazy::call(&client, stream::repeat(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::DeadlineExceeded, Ran::Yes), "{error}");
    assert!(error.message().contains("before the server took the next one"), "{error}");
    assert!(error.message().contains("it had 100ms, the idle timeout of the stream"), "{error}");
    // All were sent, and no answer comes.
    let error = lazy::call(&client, stream::iter([1])).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::DeadlineExceeded, Ran::Yes), "{error}");
    assert!(error.message().contains("after 1 item, before the reply came"), "{error}");
    // There were none.
    let error = lazy::call(&client, stream::empty()).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::DeadlineExceeded, Ran::Maybe), "{error}");
    assert!(error.message().contains("the time ran out before the reply came"), "{error}");
    // The caller takes its time.
    let slow = stream::iter(0..3).then(move |n| async move {
        tokio::time::sleep(2 * short).await;
        n
    });
    assert_eq!(total::call(&client, Box::pin(slow)).await.unwrap(), 3);
    gate.open();
    client.close().await;
    server.shutdown().await;
}

/// Waits on a worker for more than there is, and tells how it ended.
#[remote]
fn ends_with(#[state] made: &Made, numbers: Incoming<u64>) {
    for number in numbers.wait() {
        if let Err(error) = number {
            made.ends.lock().unwrap().push(error.kind());
        }
    }
}

#[tokio::test]
async fn sync_function_is_told_of_the_end_of_its_call() {
    let made = Arc::<Made>::default();
    let server = builder(&Arc::default()).shared_state(Arc::clone(&made));
    let server = server.drain_timeout(Duration::from_millis(50));
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let endless = || stream::iter([1]).chain(stream::pending());
    let ended = async |count| {
        let ended = async {
            while made.ends.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon("the function ends", ended).await;
    };
    let call = tokio::spawn(ends_with::call(&client, endless()).into_future());
    tokio::time::sleep(Duration::from_millis(50)).await;
    call.abort();
    ended(1).await;
    let short = Duration::from_millis(50);
    ends_with::call(&client, endless()).timeout(short).await.unwrap_err();
    ended(2).await;
    let call = tokio::spawn(ends_with::call(&client, endless()).into_future());
    tokio::time::sleep(Duration::from_millis(50)).await;
    soon("the server ends", server.shutdown()).await;
    let error = soon("the call ends", call).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::ShuttingDown, Ran::Yes), "{error}");
    assert!(error.message().contains("1 item of its argument had been taken"), "{error}");
    ended(3).await;
    client.close().await;
    let ends = made.ends.lock().unwrap();
    // The cancel of the client may come before the server looks at its clock.
    assert!(
        matches!(
            ends[..],
            [
                ErrorKind::Cancelled,
                ErrorKind::DeadlineExceeded | ErrorKind::Cancelled,
                ErrorKind::ShuttingDown
            ]
        ),
        "{ends:?}"
    );
}
