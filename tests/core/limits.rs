//! Every limit and duration of both builders at its extremes: either the server and the client
//! work, or `bind` or `connect` says why not.

use std::{sync::Arc, time::Duration};

use rpc_core::{Client, ClientBuilder, RpcError, Server, ServerBuilder};
use tests::{Gate, soon};

use crate::functions::{add, builder, count_words, divide_async};

const NUMBERS: [usize; 5] = [0, 1, 2, usize::MAX - 1, usize::MAX];
const DURATIONS: [Duration; 4] =
    [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(u64::MAX / 2), Duration::MAX];

type Set<B, T> = fn(B, T) -> B;

/// Makes a call of each kind of function, some of them at the same time.
async fn use_it(server: ServerBuilder, client: ClientBuilder) -> Result<(), RpcError> {
    let server: Server = server.bind("tcp://127.0.0.1:0").await.unwrap();
    let server = server.spawn().unwrap();
    let client: Client = client.connect(server.endpoint()).await?;
    let calls = async {
        for _ in 0..3 {
            let (added, counted, divided) = tokio::join!(
                add::call(&client, 1, 2),
                count_words::call(&client, "a b a"),
                divide_async::call(&client, 6, 3),
            );
            assert_eq!((added?, counted?["a"]), (3, 2));
            assert_eq!(divided.map_err(|error| error.rpc().unwrap().to_string()), Ok(2));
        }
        Ok(())
    };
    let outcome = soon("the calls", calls).await;
    client.close().await;
    soon("the server stops", server.shutdown()).await;
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_works_at_the_extremes_of_its_limits() {
    let gate: Arc<Gate> = Arc::default();
    let numbers: [(&str, Set<ServerBuilder, usize>); 7] = [
        ("max_in_flight", ServerBuilder::max_in_flight),
        ("max_bytes_in_flight", ServerBuilder::max_bytes_in_flight),
        ("max_waiting", ServerBuilder::max_waiting),
        ("max_unread_bytes", ServerBuilder::max_unread_bytes),
        ("max_remembered_replies", ServerBuilder::max_remembered_replies),
        ("max_remembered_bytes", ServerBuilder::max_remembered_bytes),
        ("max_message_size", ServerBuilder::max_message_size),
    ];
    for (name, set) in numbers {
        for value in NUMBERS {
            // No message is so small.
            if name == "max_message_size" && value < 100 {
                continue;
            }
            let outcome = use_it(set(builder(&gate), value), tests::client()).await;
            assert!(outcome.is_ok(), "{name} {value}: {outcome:?}");
        }
    }
    for value in [0, 1, 2] {
        use_it(builder(&gate).workers(value), tests::client()).await.unwrap();
    }
    let durations: [(&str, Set<ServerBuilder, Duration>); 2] = [
        ("remember_replies_for", ServerBuilder::remember_replies_for),
        ("drain_timeout", ServerBuilder::drain_timeout),
    ];
    for (name, set) in durations {
        for value in DURATIONS {
            let outcome = use_it(set(builder(&gate), value), tests::client()).await;
            assert!(outcome.is_ok(), "{name} {value:?}: {outcome:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_works_at_the_extremes_of_its_limits() {
    let gate: Arc<Gate> = Arc::default();
    let numbers: [(&str, Set<ClientBuilder, usize>); 3] = [
        ("max_in_flight", ClientBuilder::max_in_flight),
        ("max_bytes_in_flight", ClientBuilder::max_bytes_in_flight),
        ("max_message_size", ClientBuilder::max_message_size),
    ];
    for (name, set) in numbers {
        for value in NUMBERS {
            if name == "max_message_size" && value < 100 {
                continue;
            }
            let outcome = use_it(builder(&gate), set(tests::client(), value)).await;
            assert!(outcome.is_ok(), "{name} {value}: {outcome:?}");
        }
    }
    for value in [0, 1, u32::MAX] {
        use_it(builder(&gate), tests::client().retries(value)).await.unwrap();
    }
    let durations: [(&str, Set<ClientBuilder, Duration>, &str); 3] = [
        ("timeout", ClientBuilder::timeout, "time"),
        ("connect_timeout", ClientBuilder::connect_timeout, "no server answered within"),
        ("keepalive_timeout", ClientBuilder::keepalive_timeout, ""),
    ];
    for (name, set, error) in durations {
        for value in DURATIONS {
            let outcome = use_it(builder(&gate), set(tests::client(), value)).await;
            let is_short = value < Duration::from_secs(1);
            match outcome {
                Ok(()) => {}
                Err(found) if is_short && !error.is_empty() => {
                    assert!(found.message().contains(error), "{name} {value:?}: {found:?}");
                }
                Err(found) => panic!("{name} {value:?}: {found:?}"),
            }
        }
    }
}
