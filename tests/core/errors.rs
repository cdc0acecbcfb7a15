//! Calls that fail, and the content of their errors.

use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use rpc_core::{CallError, ErrorKind, Ran, remote};
use serde::{Deserialize, Serialize, Serializer};
use tests::Gate;

use crate::functions::{
    DivideError, Fixture, add, builder, crash, crash_async, crash_inline, divide, divide_async,
    echo,
};

/// Declarations of a client that differ from the implementations.
mod believed {
    use rpc_core::remote;

    #[remote]
    pub(crate) fn transfer(from: &str, to: &str) -> String;

    #[remote(name = "transfer")]
    pub(crate) fn transfer_to(to: &str) -> String;

    #[remote]
    pub(crate) fn echo(data: &[u8]) -> Vec<u8>;

    #[remote]
    pub(crate) fn divide(a: i64, b: i32) -> i32;

    #[remote]
    pub(crate) fn absent();
}

/// Moves money the other way round than [`believed::transfer`].
#[remote]
fn transfer(to: &str, from: &str, memo: Option<&str>) -> String {
    format!("{from} to {to}: {memo:?}")
}

#[tokio::test]
async fn expected_functions_are_compared_when_connecting() {
    let gate: Arc<Gate> = Arc::default();
    let server = builder(&gate).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let short = || tests::client().connect_timeout(Duration::from_millis(500));
    // What agrees is accepted, also where the types are written differently.
    let right = short().expect::<add>().expect::<echo>().expect::<divide>();
    let client = right.expect::<believed::echo>().connect(server.endpoint()).await.unwrap();
    assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
    let wrong = short().expect::<believed::transfer>().expect::<believed::divide>();
    let wrong = wrong.expect::<believed::absent>();
    let error = wrong.connect(server.endpoint()).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::No));
    let text = format!("{error:#}");
    for part in [
        "it differs from what is expected: ",
        "parameter 1 of `transfer` is `to: &str` there, and `from: &str` here; ",
        "parameter 2 of `transfer` is `from: &str` there, and `to: &str` here; ",
        "parameter 2 of `divide` is `b: i64` there, and `b: i32` here; ",
        "the result of `divide` is `i64` there, and `i32` here; ",
        "the error of `divide` is `DivideError` there, and none here; ",
        "it has no function `absent`",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains("memo"), "it is optional: {text}");
    server.shutdown().await;
}

#[tokio::test]
async fn parameters_in_another_order_are_refused() {
    let gate: Arc<Gate> = Arc::default();
    let server = builder(&gate).bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    // Many calls are on the way before the first answer.
    let calls = (0..100).map(|_| believed::transfer::call(&client, "a", "b"));
    for result in futures_util::future::join_all(calls).await {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.ran()), (ErrorKind::BadArguments, Ran::No));
        let text = error.message();
        assert!(
            text.contains("`transfer(from, to)`") && text.contains("`transfer(to, from, memo)`"),
            "{text}"
        );
    }
    // The same function is fine for callers that agree, also with fewer parameters.
    for _ in 0..2 {
        let right = transfer::call(&client, "b", "a", None).await;
        assert!(right.unwrap().starts_with("a to b"));
        let error = believed::transfer_to::call(&client, "b").await.unwrap_err();
        assert!(error.message().contains("parameter `from`"), "{error}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn typed_error_round_trips() {
    let fixture = Fixture::tcp().await;
    for result in
        [divide::call(&fixture.client, 1, 0).await, divide_async::call(&fixture.client, 1, 0).await]
    {
        let error = result.unwrap_err();
        assert_eq!(error.ran(), Ran::Yes);
        assert_eq!(error.to_string(), "division of 1 by zero");
        assert_eq!(error.failed().unwrap(), DivideError::ByZero(1));
    }
    fixture.end().await;
}

#[tokio::test]
async fn dynamic_call_returns_typed_error_as_data() {
    let fixture = Fixture::tcp().await;
    let error = fixture.client.call_dynamic::<i64>("divide", (1, 0)).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Failed, Ran::Yes));
    assert_eq!(error.message(), "division of 1 by zero");
    assert_eq!(error.data::<DivideError>(), Some(DivideError::ByZero(1)));
    assert_eq!(error.data::<i64>(), None);
    fixture.end().await;
}

#[tokio::test]
async fn panic_is_an_error_and_server_survives() {
    let fixture = Fixture::tcp().await;
    for _ in 0..1_000 {
        let error = crash::call(&fixture.client).await.unwrap_err();
        assert_eq!((error.kind(), error.ran()), (ErrorKind::Panicked, Ran::Yes));
        assert_eq!(error.message(), "the function panicked: as it was asked to");
    }
    let error = crash_async::call(&fixture.client, "asynchronously".to_owned()).await.unwrap_err();
    assert_eq!(error.message(), "the function panicked: asynchronously");
    let error = crash_inline::call(&fixture.client).await.unwrap_err();
    assert_eq!(error.message(), "the function panicked: inline");
    assert_eq!(add::call(&fixture.client, 1, 2).await.unwrap(), 3);
    fixture.end().await;
}

#[tokio::test]
async fn unknown_function_error_suggests_a_name() {
    let fixture = Fixture::tcp().await;
    let error = fixture.client.call_dynamic::<i64>("devide", (1, 0)).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::UnknownFunction, Ran::No));
    assert!(error.message().contains("did you mean `divide`"), "{error}");
    fixture.end().await;
}

#[tokio::test]
async fn wrong_arguments_name_the_parameter() {
    let fixture = Fixture::tcp().await;
    let cases = [
        (
            fixture.client.call_dynamic::<i64>("add", (1,)).await,
            "parameter `b` (i64): it is missing",
        ),
        (fixture.client.call_dynamic::<i64>("add", (1, "x")).await, "parameter `b` (i64): "),
        (fixture.client.call_dynamic::<i64>("add", (1, 2, 3)).await, "3 arguments were given"),
    ];
    for (result, expected) in cases {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.ran()), (ErrorKind::BadArguments, Ran::No));
        assert!(error.message().contains(expected), "{error}");
    }
    fixture.end().await;
}

#[tokio::test]
async fn non_tuple_params_are_refused_before_sending() {
    let fixture = Fixture::inproc().await;
    let error = fixture.client.call_dynamic::<i64>("add", 1).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::BadArguments, Ran::No));
    assert!(format!("{error:#}").contains("`(argument,)`"), "{error:#}");
    fixture.end().await;
}

/// A value that cannot be encoded.
#[derive(Debug, Deserialize)]
struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it will not talk"))
    }
}

#[remote]
fn listen(_to: Unencodable) {}

#[remote]
fn mute() -> Unencodable {
    Unencodable
}

#[tokio::test]
async fn encode_error_is_reported_where_it_occurs() {
    let fixture = Fixture::inproc().await;
    let error = listen::call(&fixture.client, Unencodable).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::BadArguments, Ran::No));
    assert!(error.source().unwrap().to_string().contains("it will not talk"));
    let error = mute::call(&fixture.client).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Failed, Ran::Yes));
    assert!(error.message().contains("it will not talk"), "{error}");
    fixture.end().await;
}

#[tokio::test]
async fn mistyped_result_is_a_protocol_error() {
    let fixture = Fixture::tcp().await;
    let error = fixture.client.call_dynamic::<String>("add", (1, 2)).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Protocol, Ran::Yes));
    assert!(error.message().contains("String"), "{error}");
    fixture.end().await;
}

#[tokio::test]
async fn error_names_the_place_in_the_value() {
    let fixture = Fixture::tcp().await;
    let call = fixture.client.call_dynamic::<BTreeMap<String, String>>("count_words", ("b a b",));
    let error = call.await.unwrap_err();
    assert!(error.message().ends_with("String>`, at `a`"), "{error}");
    let shown = format!("{error:#}");
    assert!(shown.ends_with("at `a`: invalid type: integer `1`, expected a string"), "{shown}");

    let error = other_number::divide::call(&fixture.client, 1, 0).await.unwrap_err();
    let CallError::Rpc(error) = error else { panic!("{error:?}") };
    assert!(error.message().ends_with("DivideError`, at `ByZero`"), "{error}");

    let call = fixture.client.call_dynamic::<i64>("add", (1, [2]));
    let error = call.await.unwrap_err();
    let expected = "parameter `b` (i64): invalid type: sequence, expected i64";
    assert_eq!((error.kind(), error.message()), (ErrorKind::BadArguments, expected));
    fixture.end().await;
}

mod other_number {
    use super::{Deserialize, Serialize, remote};

    #[derive(Debug, Serialize, Deserialize, thiserror::Error)]
    pub(super) enum DivideError {
        #[error("{0}")]
        ByZero(String),
    }

    #[remote]
    pub(super) fn divide(a: i64, b: i64) -> Result<i64, DivideError>;
}

mod other_view {
    use super::{Deserialize, Serialize, remote};

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) struct NoSuchError {
        pub(super) unknown: u8,
    }

    impl std::fmt::Display for NoSuchError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{}", self.unknown)
        }
    }

    #[remote]
    pub(super) fn divide(a: i64, b: i64) -> Result<i64, NoSuchError>;
}

#[tokio::test]
async fn mistyped_error_is_a_protocol_error() {
    let fixture = Fixture::tcp().await;
    let error = other_view::divide::call(&fixture.client, 1, 0).await.unwrap_err();
    let CallError::Rpc(error) = error else { panic!("{error:?}") };
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Protocol, Ran::Yes));
    assert!(error.message().contains("NoSuchError"), "{error}");
    fixture.end().await;
}

#[tokio::test]
async fn errors_name_function_and_endpoint() {
    let fixture = Fixture::tcp().await;
    let endpoint = fixture.server.endpoint().to_owned();
    let error = crash::call(&fixture.client).await.unwrap_err();
    assert_eq!((error.function(), error.endpoint()), ("crash", endpoint.as_str()));
    let expected =
        format!("call of `crash` at {endpoint}: the function panicked: as it was asked to");
    assert_eq!(error.to_string(), expected);
    fixture.end().await;
}

#[tokio::test]
async fn oversized_messages_are_refused_on_both_sides() {
    let gate = std::sync::Arc::default();
    let server = builder(&gate)
        .max_message_size(10_000)
        .bind("tcp://127.0.0.1:0")
        .await
        .unwrap()
        .spawn()
        .unwrap();
    let endpoint = server.endpoint();
    let data = |len| Bytes::from(vec![0; len]);
    let limit_and_ran = |error: rpc_core::RpcError| match error.kind() {
        ErrorKind::TooLarge { size, limit } if size > limit => (limit, error.ran()),
        other => panic!("{other:?}: {error}"),
    };

    // The client knows the server's limit from the server's reply to the hello.
    let client = tests::client().connect(endpoint).await.unwrap();
    echo::call(&client, data(9_000)).await.unwrap();
    let error = echo::call(&client, data(10_000)).await.unwrap_err();
    assert!(error.message().contains("the server's max_message_size is 10000"), "{error}");
    assert_eq!(limit_and_ran(error), (10_000, Ran::No));

    // The client's own limit applies to requests and to responses.
    let narrow = tests::client().max_message_size(1_000).connect(endpoint).await.unwrap();
    let error = echo::call(&narrow, data(2_000)).await.unwrap_err();
    assert_eq!(limit_and_ran(error), (1_000, Ran::No));
    let error = grow::call(&narrow, 2_000).await.unwrap_err();
    assert_eq!(limit_and_ran(error), (1_000, Ran::Yes));

    // The server does not send a response that exceeds its limit.
    let error = grow::call(&client, 20_000).await.unwrap_err();
    assert_eq!(limit_and_ran(error), (10_000, Ran::Yes));
    server.shutdown().await;
}

#[remote]
fn grow(len: usize) -> Vec<u8> {
    vec![0; len]
}

#[test]
fn error_is_one_pointer_and_send_and_sync() {
    fn is_thread_safe<T: Send + Sync + Error + 'static>() {}
    is_thread_safe::<rpc_core::RpcError>();
    assert_eq!(size_of::<rpc_core::RpcError>(), size_of::<usize>());
}

#[tokio::test]
async fn oversized_error_reports_ran_correctly() {
    let gate = std::sync::Arc::default();
    let server = builder(&gate)
        .max_message_size(80)
        .bind("tcp://127.0.0.1:0")
        .await
        .unwrap()
        .spawn()
        .unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let error = client.call_dynamic::<()>("add", ("x", "y")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { limit: 80, .. }), "{error:?}");
    assert_eq!(error.ran(), Ran::No);
    server.shutdown().await;
}
