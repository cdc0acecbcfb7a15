//! Metadata: what a caller sends with a call besides its arguments.

use std::sync::Arc;

use rpc_core::{Client, Context, ErrorKind, Ran, remote};
use tests::{Gate, endpoints};

use crate::functions::{Inner, Notes, builder, metadata, noted};

/// Returns the metadata of a call that this one makes.
#[remote]
async fn metadata_of_nested(
    #[state] inner: &Inner,
    #[context] cx: &Context,
    forwarded: Vec<String>,
) -> Vec<String> {
    let client = inner.0.get().expect("the test has set it");
    metadata::call(client).forward_metadata(cx, forwarded).await.unwrap_or_default()
}

#[remote]
fn note_metadata(#[state] notes: &Notes, #[context] cx: &Context) {
    let tenant = cx.metadata("tenant").unwrap_or("none").to_owned();
    notes.0.lock().expect("nothing panics while it is held").push(tenant);
}

#[tokio::test]
async fn metadata_travels_with_a_call() {
    for endpoint in endpoints() {
        let inner: Arc<Inner> = Arc::default();
        let builder = builder(&Arc::<Gate>::default()).shared_state(Arc::clone(&inner));
        let server = builder.bind(&endpoint).await.unwrap().spawn().unwrap();
        let client = tests::client()
            .metadata("tenant", "a")
            .metadata_bytes("token", b"secret")
            .connect(server.endpoint())
            .await
            .unwrap();
        assert_eq!(metadata::call(&client).await.unwrap(), ["tenant=a", "token=secret"]);
        let call = metadata::call(&client).metadata("tenant", "b").metadata("id", "7");
        assert_eq!(call.await.unwrap(), ["token=secret", "tenant=b", "id=7"]);
        let each = metadata::map(&client, [(); 2]).metadata("id", "8").collect_ordered();
        assert_eq!(each.await.unwrap(), [["tenant=a", "token=secret", "id=8"]; 2]);

        let plain = tests::client().connect(server.endpoint()).await.unwrap();
        assert!(metadata::call(&plain).await.unwrap().is_empty());
        assert!(inner.0.set(plain.clone()).is_ok());
        let nested = async |names: &[&str]| {
            let names = names.iter().map(ToString::to_string).collect();
            metadata_of_nested::call(&client, names).await.unwrap()
        };
        assert!(nested(&[]).await.is_empty(), "it is handed on only where that is asked for");
        assert_eq!(nested(&["token", "none"]).await, ["token=secret"]);

        note_metadata::notify(&client).metadata("tenant", "c").await.unwrap();
        note_metadata::notify(&plain).await.unwrap();
        let mut notes = Vec::new();
        while notes.len() < 2 {
            notes = noted::call(&client).await.unwrap();
        }
        notes.sort_unstable();
        assert_eq!(notes, ["c", "none"]);
        server.shutdown().await;
    }
}

#[tokio::test]
async fn text_and_bytes_are_told_apart() {
    #[remote]
    fn kinds(#[context] cx: &Context) -> [bool; 4] {
        let text = |name| cx.metadata(name).is_some();
        let bytes = |name| cx.metadata_bytes(name).is_some();
        [text("text"), bytes("text"), text("bytes"), bytes("bytes")]
    }
    let server = tests::server().serve::<kinds>().bind("tcp://127.0.0.1:0").await.unwrap();
    let server = server.spawn().unwrap();
    let client = tests::client().connect(server.endpoint()).await.unwrap();
    let call = kinds::call(&client).metadata("text", "a").metadata_bytes("bytes", b"a");
    assert_eq!(call.await.unwrap(), [true, true, false, true]);
    server.shutdown().await;
}

#[tokio::test]
async fn metadata_over_the_limits_is_not_sent() {
    let client: Client = tests::client().connect_lazy("tcp://127.0.0.1:1").unwrap();
    let many = (0..33).fold(metadata::call(&client), |call, n| call.metadata(n.to_string(), ""));
    let long = metadata::call(&client).metadata("name", "x".repeat(4_093));
    for call in [many, long] {
        let error = call.await.unwrap_err();
        assert_eq!((error.kind(), error.ran()), (ErrorKind::BadArguments, Ran::No));
        assert!(error.message().contains("the limits are 32 and 4096"), "{error}");
    }
}
