//! Bytes are encoded as `bin` wherever their type is known, and not as arrays of numbers.
#![deny(warnings, missing_docs, unreachable_pub)]

use std::fmt;

use bytes::Bytes;
use rpc_core::{Client, Server, remote};
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

type Blob = Vec<u8>;

#[remote]
fn alias() -> Blob {
    vec![1]
}

#[remote]
fn vec_of_result() -> Result<Vec<u8>, String> {
    Ok(vec![1])
}

#[remote]
async fn bytes_of_result() -> Result<Bytes, String> {
    Ok(Bytes::from_static(&[1]))
}

#[remote]
fn option_of_result() -> Result<Option<Vec<u8>>, String> {
    Ok(Some(vec![1]))
}

#[remote]
fn numbers() -> Vec<u16> {
    vec![1]
}

/// The encoding in which a value arrived.
#[derive(Debug, PartialEq)]
enum CameAs {
    Bin,
    Array,
}

impl<'de> Deserialize<'de> for CameAs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tell;
        impl<'de> Visitor<'de> for Tell {
            type Value = CameAs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes or an array")
            }
            fn visit_bytes<E>(self, _: &[u8]) -> Result<CameAs, E> {
                Ok(CameAs::Bin)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<CameAs, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(CameAs::Array)
            }
        }
        deserializer.deserialize_any(Tell)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = Server::bind("inproc://bytes").await.unwrap().spawn().unwrap();
    let client = Client::connect("inproc://bytes").await.unwrap();
    for name in ["alias", "vec_of_result", "bytes_of_result", "option_of_result"] {
        assert_eq!(
            client.call_dynamic::<CameAs>(name, ()).await.unwrap(),
            CameAs::Bin,
            "{name}"
        );
    }
    assert_eq!(
        client.call_dynamic::<CameAs>("numbers", ()).await.unwrap(),
        CameAs::Array
    );

    assert_eq!(alias::call(&client).await.unwrap(), [1]);
    assert_eq!(vec_of_result::call(&client).await.unwrap(), [1]);
    assert_eq!(bytes_of_result::call(&client).await.unwrap(), [1][..]);
    assert_eq!(option_of_result::call(&client).await.unwrap(), Some(vec![1]));
    assert_eq!(numbers::call(&client).await.unwrap(), [1]);
    server.shutdown().await;
}
