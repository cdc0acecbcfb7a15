//! Calls that fail, and the content of their errors.

use std::error::Error;

use bytes::Bytes;
use rpc_core::{CallError, ErrorKind, Ran, remote};
use serde::{Deserialize, Serialize, Serializer};

use crate::functions::{
    DivideError, Fixture, add, builder, crash, crash_async, crash_inline, divide, divide_async,
    echo,
};

#[tokio::test]
async fn a_typed_error_comes_back_as_it_was() {
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
async fn a_typed_error_of_a_call_by_name_is_its_data() {
    let fixture = Fixture::tcp().await;
    let error = fixture.client.call_dynamic::<i64>("divide", (1, 0)).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Failed, Ran::Yes));
    assert_eq!(error.message(), "division of 1 by zero");
    assert_eq!(error.data::<DivideError>(), Some(DivideError::ByZero(1)));
    assert_eq!(error.data::<i64>(), None);
    fixture.end().await;
}

#[tokio::test]
async fn a_panic_is_an_error_and_the_server_lives_on() {
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
async fn an_unknown_function_is_told_with_its_neighbours() {
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
async fn params_that_are_no_tuple_are_refused_before_they_are_sent() {
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
async fn what_cannot_be_encoded_is_an_error_on_its_own_side() {
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
async fn a_result_of_another_type_is_an_error_that_names_both() {
    let fixture = Fixture::tcp().await;
    let error = fixture.client.call_dynamic::<String>("add", (1, 2)).await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Protocol, Ran::Yes));
    assert!(error.message().contains("String"), "{error}");
    fixture.end().await;
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
async fn an_error_of_another_type_is_a_protocol_error() {
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
async fn messages_over_the_limit_are_refused_before_they_are_sent_and_on_receipt() {
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
    assert_eq!(limit_and_ran(error), (1_000, Ran::Maybe));

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
fn an_error_is_one_pointer_and_travels_between_threads() {
    fn is_thread_safe<T: Send + Sync + Error + 'static>() {}
    is_thread_safe::<rpc_core::RpcError>();
    assert_eq!(size_of::<rpc_core::RpcError>(), size_of::<usize>());
}

#[tokio::test]
async fn an_error_that_is_too_large_to_be_sent_tells_the_truth_about_having_run() {
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
