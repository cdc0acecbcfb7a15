//! Every way to return.
#![deny(warnings, missing_docs, unreachable_pub)]
#![forbid(unsafe_code)]

use std::borrow::Cow;

use bytes::Bytes;
use rpc_core::{CallError, RemoteFn, RpcError, remote};

mod alias {
    pub(crate) type Result<T> = std::result::Result<T, String>;
    pub(crate) type Swapped<E, T> = std::result::Result<T, E>;
    pub(crate) mod swapped {
        pub(crate) use super::Swapped as Result;
    }
    pub(crate) type Blob = Vec<u8>;
}

#[remote]
fn nothing() {}

#[remote]
async fn nothing_async() {}

#[remote]
fn unit() -> () {}

#[remote]
fn value() -> alias::Blob {
    vec![]
}

#[remote]
fn cow() -> Cow<'static, str> {
    "static".into()
}

#[remote]
fn option() -> Option<Bytes> {
    None
}

#[remote]
fn result(number: u8) -> Result<Vec<u8>, String> {
    if number == 0 {
        Err("zero".to_owned())
    } else {
        Ok(vec![number])
    }
}

#[remote]
fn long_path() -> std::result::Result<Bytes, String> {
    Ok(Bytes::new())
}

#[remote]
fn aliased() -> alias::Result<(u8, String)> {
    Ok((1, String::new()))
}

#[remote]
fn aliased_the_other_way_round() -> alias::swapped::Result<String, u8> {
    Ok(1)
}

#[remote]
async fn later(text: &str) -> Result<(), String> {
    Err(text.to_owned())
}

fn yields<F: RemoteFn<Output = T, Error = E>, T, E>() -> (&'static str, Option<&'static str>) {
    (F::SIGNATURE.output, F::SIGNATURE.error.map(|name| name()))
}

fn main() {
    assert_eq!(yields::<nothing, (), RpcError>(), ("()", None));
    assert_eq!(yields::<nothing_async, (), RpcError>(), ("()", None));
    assert_eq!(yields::<unit, (), RpcError>(), ("()", None));
    assert_eq!(yields::<value, Vec<u8>, RpcError>(), ("alias::Blob", None));
    assert_eq!(
        yields::<cow, Cow<'static, str>, RpcError>().0,
        "Cow<'static, str>"
    );
    assert_eq!(yields::<option, Option<Bytes>, RpcError>().0, "Option<Bytes>");

    let error = Some("alloc::string::String");
    assert_eq!(yields::<result, Vec<u8>, CallError<String>>(), ("Vec<u8>", error));
    assert_eq!(yields::<long_path, Bytes, CallError<String>>(), ("Bytes", error));
    assert_eq!(
        yields::<aliased, (u8, String), CallError<String>>(),
        ("(u8, String)", error)
    );
    assert_eq!(
        yields::<aliased_the_other_way_round, u8, CallError<String>>().1,
        error
    );
    assert_eq!(yields::<later, (), CallError<String>>(), ("()", error));
}
