//! Two functions with the same name in one program. This is a program of its own, because the
//! duplicate name keeps a server from serving all linked functions.

use rpc_core::{ServeError, remote};
use tests::unique;

#[remote]
fn greet(name: &str) -> String {
    format!("Hello, {name}")
}

mod other {
    use rpc_core::remote;

    #[remote(name = "greet", type = GreetBack)]
    pub(super) fn greet_back(name: &str) -> String {
        format!("{name} greets back")
    }
}

#[tokio::test]
async fn duplicate_name_error_shows_both_places() {
    let error = tests::server().bind(format!("inproc://{}", unique())).await.unwrap_err();
    assert!(matches!(error, ServeError::DuplicateFunction { .. }));
    let places = error.to_string();
    assert!(places.starts_with("two functions are named `greet`: "), "{places}");
    assert_eq!(places.matches("duplicates.rs:").count(), 2, "{places}");
}

#[tokio::test]
async fn unserved_duplicate_name_is_allowed() {
    let server =
        tests::server().serve::<other::GreetBack>().bind(format!("inproc://{}", unique())).await;
    let server = server.unwrap().spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    assert_eq!(greet::call(&client, "Ada").await.unwrap(), "Ada greets back");
    server.shutdown().await;
}
