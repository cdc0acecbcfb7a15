//! Timeouts: which timeout applies, and the effect of an expired deadline on the function.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt, stream};
use rpc_core::{Call, Context, ErrorKind, Ran, RemoteFn, RpcError, WhenFull, remote};
use tests::{Gate, RawClient, soon, unique};

use crate::functions::{Fixture, Inner, add, builder, hold, hold_async, hold_stubbornly};

const SHORT: Duration = Duration::from_millis(50);

#[remote(timeout = "50ms")]
async fn hold_shortly(#[state] gate: &Gate) -> bool {
    let _inside = gate.enter();
    gate.pass_async().await;
    true
}

/// Makes a call that exceeds its deadline. Repeats the call if the deadline passed before the
/// function had started.
async fn overrun<F: RemoteFn<Error = RpcError>>(gate: &Gate, call: impl Fn() -> Call<F>) -> RpcError
where
    F::Output: std::fmt::Debug,
{
    loop {
        let error = call().timeout(SHORT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        if gate.unseen() > 0 {
            gate.entered(1).await;
            return error;
        }
    }
}

/// Returns the remaining time that the function sees, in milliseconds.
#[remote(inline, timeout = "60s")]
fn time_left(#[context] cx: &Context) -> Option<u64> {
    cx.remaining().map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
}

#[tokio::test]
async fn a_call_ends_at_its_timeout() {
    let fixture = Fixture::tcp().await;
    let started = Instant::now();
    let error = overrun(&fixture.gate, || hold_async::call(&fixture.client)).await;
    assert!(started.elapsed() >= SHORT);
    assert_ne!(error.ran(), Ran::No, "it has started");
    // The server has dropped the function as well.
    fixture.gate.left(1).await;
    fixture.end().await;
}

#[tokio::test]
async fn timeout_order_is_call_function_client() {
    let fixture = Fixture::inproc().await;
    let left = |call: rpc_core::Call<time_left>| async {
        call.await.unwrap().expect("there is a deadline")
    };

    assert!((50_001..=60_000).contains(&left(time_left::call(&fixture.client)).await));
    let own = time_left::call(&fixture.client).timeout(Duration::from_secs(500));
    assert!((400_000..=500_000).contains(&left(own).await));
    let by_name =
        fixture.client.call_dynamic::<Option<u64>>("time_left", ()).await.unwrap().unwrap();
    assert!((20_000..=30_000).contains(&by_name), "{by_name}");

    let builder = tests::client().timeout(Duration::from_secs(200));
    let patient = builder.connect(fixture.server.endpoint()).await.unwrap();
    let by_name = patient.call_dynamic::<Option<u64>>("time_left", ()).await.unwrap().unwrap();
    assert!((100_000..=200_000).contains(&by_name), "{by_name}");
    fixture.end().await;
}

#[tokio::test]
async fn a_function_has_a_timeout_of_its_own() {
    let fixture = Fixture::tcp().await;
    let error = hold_shortly::call(&fixture.client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);

    // The timeout also holds for a caller that sends no timeout.
    let mut raw = RawClient::connect(fixture.server.endpoint()).await;
    let reply = raw.ask(b"\x94\x00\x01\xachold_shortly\x90").await;
    assert!(reply.windows(17).any(|part| part == b"deadline_exceeded"), "{reply:?}");
    fixture.end().await;
}

#[tokio::test]
async fn request_queued_past_deadline_never_starts() {
    let fixture = Fixture::tcp().await;
    let busy: Vec<_> = (0..2).map(|_| tokio::spawn(hold::call(&fixture.client))).collect();
    fixture.gate.entered(2).await;
    // The raw client sees the server's answer. Our client would stop waiting at the same moment.
    let mut raw = RawClient::connect(fixture.server.endpoint()).await;
    let reply = raw.ask(b"\x95\x00\x01\xa4hold\x81\xaatimeout_ms\x0a\x90").await;
    assert!(reply.windows(17).any(|part| part == b"deadline_exceeded"), "{reply:?}");
    assert!(reply.windows(7).any(|part| part == b"\xa3ran\xa2no"), "{reply:?}");
    fixture.gate.open();
    for call in busy {
        assert!(call.await.unwrap().unwrap());
    }
    assert_eq!(fixture.gate.unseen(), 0);
    fixture.end().await;
}

#[tokio::test]
async fn overrunning_function_keeps_its_slot() {
    let gate: Arc<Gate> = Arc::default();
    let server =
        builder(&gate).max_in_flight(1).bind(format!("inproc://{}", unique())).await.unwrap();
    let server = server.spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    overrun(&gate, || hold_stubbornly::call(&client)).await;
    let error = hold_stubbornly::call(&client).retries(0).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Overloaded, Ran::No));
    gate.open();
    // The client retries until the slot is free.
    assert!(soon("its slot becomes free", hold_stubbornly::call(&client)).await.unwrap());
    server.shutdown().await;
}

#[tokio::test]
async fn sync_function_observes_its_deadline() {
    let fixture = Fixture::tcp().await;
    while fixture.gate.unseen() == 0 {
        // The function returns as soon as it sees that its time is up. Its reply may still arrive
        // before the client gives up.
        let passed = hold::call(&fixture.client).timeout(SHORT).await;
        assert!(!passed.unwrap_or(false), "the gate is shut");
    }
    fixture.gate.left(1).await;
    fixture.end().await;
}

/// Returns the remaining time of a nested call, in milliseconds.
#[remote]
async fn nested_time_left(#[state] inner: &Inner) -> Option<u64> {
    let client = inner.0.get().expect("the test has set it");
    client.call_dynamic("time_left", ()).await.unwrap_or_default()
}

#[remote]
fn nested_time_left_sync(#[state] inner: &Inner) -> Option<u64> {
    let client = inner.0.get().expect("the test has set it");
    client.call_dynamic("time_left", ()).wait().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_calls_inherit_the_remaining_time() {
    let inner: Arc<Inner> = Arc::default();
    let builder = builder(&Arc::default()).shared_state(Arc::clone(&inner));
    let server = builder.bind(format!("inproc://{}", unique())).await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    inner.0.set(client.clone()).unwrap();
    let timeout = Duration::from_secs(10);
    let left = nested_time_left::call(&client).timeout(timeout).await.unwrap().unwrap();
    assert!((1..=10_000).contains(&left), "{left}");
    let left = nested_time_left_sync::call(&client).timeout(timeout).await.unwrap().unwrap();
    assert!((1..=10_000).contains(&left), "{left}");
    server.shutdown().await;
}

#[remote]
async fn ticks(count: u32) -> impl Stream<Item = u32> + Send {
    stream::iter(0..count).then(async |n| {
        tokio::time::sleep(SHORT / 2).await;
        n
    })
}

/// Forwards the items of another call.
#[remote]
async fn relay(
    #[state] inner: Arc<Inner>,
    count: u32,
) -> impl Stream<Item = Result<u32, String>> + Send {
    let client = inner.0.get().expect("the test has set it");
    ticks::call(client, count).map(|item| item.map_err(|error| error.to_string()))
}

#[tokio::test]
async fn timeout_of_a_client_limits_no_stream() {
    let inner: Arc<Inner> = Arc::default();
    let builder = builder(&Arc::default()).shared_state(Arc::clone(&inner));
    let server = builder.bind(format!("inproc://{}", unique())).await.unwrap().spawn().unwrap();
    let client = tests::client().timeout(SHORT).connect(server.endpoint()).await.unwrap();
    inner.0.set(client.clone()).unwrap();
    let items: Vec<_> = ticks::call(&client, 6).map(Result::unwrap).collect().await;
    assert_eq!(items, [0, 1, 2, 3, 4, 5]);
    let items: Vec<_> = relay::call(&client, 6).map(Result::unwrap).collect().await;
    assert_eq!(items, [0, 1, 2, 3, 4, 5]);
    // What is asked for limits the call within it too.
    let mut items = relay::call(&client, 1_000).timeout(10 * SHORT);
    let error = loop {
        match soon("an item", items.next()).await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let error = format!("{error:#}");
    let limits = ["the timeout of this call", "what was left of the call in which it was made"];
    assert!(limits.iter().any(|limit| error.contains(limit)), "{error}");
    client.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn zero_and_maximum_timeouts_are_allowed() {
    let fixture = Fixture::inproc().await;
    let error = add::call(&fixture.client, 1, 2).timeout(Duration::ZERO).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::DeadlineExceeded, Ran::No));
    assert_eq!(add::call(&fixture.client, 1, 2).timeout(Duration::MAX).await.unwrap(), 3);
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_keeps_deadlines() {
    let fixture = Fixture::tcp().await;
    let busy: Vec<_> = (0..32)
        .map(|_| {
            let client = fixture.client.clone();
            tokio::spawn(async move {
                loop {
                    add::call(&client, 1, 2).await.unwrap();
                }
            })
        })
        .collect();
    // The raw client never gives up by itself, so the server has to enforce the deadline while it
    // is busy.
    let mut raw = RawClient::connect(fixture.server.endpoint()).await;
    for _ in 0..5 {
        let started = Instant::now();
        raw.ask(b"\x94\x00\x01\xachold_shortly\x90").await;
        // The function's timeout is 50 ms. Before the server was fixed, the reply usually took
        // seconds.
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
    for task in busy {
        task.abort();
    }
    fixture.end().await;
}

#[tokio::test]
async fn client_timeout_sends_a_cancel() {
    let mut peer = tests::RawServer::bind().await;
    let client = tests::client().connect_lazy(&peer.endpoint).unwrap();
    let [identity, _, hello] = peer.recv().await;
    let welcome = [b"\x94\x01", &hello[2..7], b"\xc0\x81\xb0max_message_size\xcd\xff\xff"];
    peer.send(&identity, &welcome.concat()).await;
    let call = tokio::spawn(add::call(&client, 1, 2).timeout(SHORT));
    let request = peer.recv().await[2].clone();
    assert_eq!(call.await.unwrap().unwrap_err().ran(), Ran::Maybe);
    let cancel = [b"\x93\x02\xaarpc.cancel\x91", &request[6..7]].concat();
    assert_eq!(peer.recv().await[2], cancel);
}

/// The error of the call that `hold_through` makes.
static INNER: Mutex<String> = Mutex::new(String::new());

/// Makes a call that has as much time as is left of its own.
#[remote]
fn hold_through(endpoint: &str) {
    let client = tests::client().connect(endpoint).wait().unwrap();
    *INNER.lock().unwrap() = hold_async::call(&client).wait().unwrap_err().to_string();
}

#[tokio::test]
async fn deadline_error_says_whose_time_ran_out() {
    let gate: Arc<Gate> = Arc::default();
    let server = builder(&gate).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let short = tests::client().timeout(Duration::from_millis(50));
    let client = short.connect(server.endpoint()).await.unwrap();
    let text = |error: RpcError| {
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        error.to_string()
    };
    let of_client = text(hold_async::call(&client).await.unwrap_err());
    assert!(of_client.ends_with("; it had 50ms, the timeout of the client"), "{of_client}");
    let of_call = hold_async::call(&client).timeout(Duration::from_millis(30));
    let of_call = text(of_call.await.unwrap_err());
    assert!(of_call.ends_with("; it had 30ms, the timeout of this call"), "{of_call}");
    let of_function = text(hold_shortly::call(&client).await.unwrap_err());
    assert!(of_function.ends_with("; it had 50ms, the timeout of the function"), "{of_function}");
    let outer = hold_through::call(&client, server.endpoint());
    outer.timeout(Duration::from_millis(300)).await.unwrap_err();
    let inner = || INNER.lock().unwrap().clone();
    soon("the inner call ends", async {
        while inner().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(inner().ends_with("ms, what was left of the call in which it was made"), "{}", inner());
    gate.open();
    server.shutdown().await;
}

#[tokio::test]
async fn deadline_error_tells_of_earlier_tries() {
    let gate: Arc<Gate> = Arc::default();
    let small = builder(&gate).max_in_flight(1).bind("tcp://127.0.0.1:0").await.unwrap();
    let server = small.spawn().unwrap();
    let impatient = tests::client().when_full(WhenFull::Fail);
    let client = impatient.connect(server.endpoint()).await.unwrap();
    let first = tokio::spawn(hold_async::call(&client));
    gate.entered(1).await;
    let error = hold_async::call(&client).timeout(Duration::from_millis(400)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("earlier tr") && text.contains(server.endpoint()), "{text}");
    assert!(text.contains("(max_in_flight) is 1"), "{text}");
    gate.open();
    assert!(first.await.unwrap().unwrap());
    // A client that keeps its calls says what they wait for.
    let gate: Arc<Gate> = Arc::default();
    let small = builder(&gate).max_in_flight(1).bind("tcp://127.0.0.1:0").await.unwrap();
    let busy = small.spawn().unwrap();
    let client = tests::client().connect(busy.endpoint()).await.unwrap();
    let first = tokio::spawn(hold_async::call(&client));
    gate.entered(1).await;
    let error = hold_async::call(&client).timeout(Duration::from_millis(50)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("as many calls of this client as they take"), "{text}");
    assert_eq!(error.ran(), Ran::No);
    gate.open();
    assert!(first.await.unwrap().unwrap());
    busy.shutdown().await;
    server.shutdown().await;
}

/// Returns the deadline that is inherited in tasks and threads, in five ways.
#[remote]
async fn inherits(#[context] cx: &Context) -> Vec<bool> {
    let inherits = || Context::current().is_some_and(|current| current.deadline().is_some());
    let plain = tokio::spawn(async move { inherits() }).await.unwrap();
    let spawned = cx.spawn(async move {
        tokio::task::yield_now().await;
        inherits()
    });
    let scoped = tokio::spawn(cx.scope(async move { inherits() }));
    let context = cx.clone();
    let thread = std::thread::spawn(move || (context.run(inherits), inherits()));
    let (in_thread, after) = thread.join().unwrap();
    vec![inherits(), plain, spawned.await.unwrap(), scoped.await.unwrap(), in_thread, after]
}

#[tokio::test]
async fn deadline_follows_where_it_is_asked_to() {
    let fixture = Fixture::tcp().await;
    let found = inherits::call(&fixture.client).await.unwrap();
    assert_eq!(found, [true, false, true, true, true, false]);
    assert!(Context::current().is_none());
    fixture.end().await;
}
