//! Values that are nested deeply: 128 levels travel, more are refused, and nothing overflows a
//! stack.

use std::fmt;

use rpc_core::{CallError, ErrorKind, Ran, RpcError, remote};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeSeq as _};
use tests::RawClient;

use crate::functions::Fixture;

/// Arrays in each other, so many as the number says. It is a number in memory, so that only
/// encoding and decoding can overflow the stack.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Deep(usize);

impl Serialize for Deep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(inner) = self.0.checked_sub(1) else { return serializer.serialize_unit() };
        let mut seq = serializer.serialize_seq(Some(1))?;
        seq.serialize_element(&Deep(inner))?;
        seq.end()
    }
}

impl<'de> Deserialize<'de> for Deep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<(Self,)>::deserialize(deserializer)?
            .map_or(Self(0), |(inner,)| Self(inner.0 + 1)))
    }
}

impl fmt::Display for Deep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} levels", self.0)
    }
}

/// The recursion goes through the variants of an enum, which are maps.
#[derive(Debug, Serialize, Deserialize)]
enum Expression {
    Number(i64),
    Negative(Box<Expression>),
}

#[remote]
fn deep(levels: usize) -> Deep {
    Deep(levels)
}

#[remote]
async fn deep_async(levels: usize) -> Deep {
    Deep(levels)
}

#[remote(inline)]
fn deep_inline(levels: usize) -> Deep {
    Deep(levels)
}

#[remote]
#[allow(clippy::unnecessary_wraps)]
fn deep_ok(levels: usize) -> Result<Deep, String> {
    Ok(Deep(levels))
}

#[remote]
fn deep_error(levels: usize) -> Result<(), Deep> {
    Err(Deep(levels))
}

#[remote]
async fn deep_error_async(levels: usize) -> Result<(), Deep> {
    Err(Deep(levels))
}

#[remote(inline)]
fn deep_error_inline(levels: usize) -> Result<(), Deep> {
    Err(Deep(levels))
}

#[remote]
#[allow(clippy::trivially_copy_pass_by_ref)]
fn levels(_before: u8, value: Deep, after: &Deep) -> usize {
    value.0 + after.0
}

#[remote]
fn depth_of(expression: Expression) -> i64 {
    let (mut depth, mut inner) = (0, &expression);
    while let Expression::Negative(next) = inner {
        (depth, inner) = (depth + 1, next);
    }
    depth
}

const LIMIT: usize = 128;

fn check<T: fmt::Debug>(error: &RpcError, kind: ErrorKind, ran: Ran, context: T) {
    assert_eq!((error.kind(), error.ran()), (kind, ran), "{context:?}: {error}");
    assert!(format!("{error:#}").contains("nested deeper than 128 levels"), "{error:#}");
}

#[tokio::test]
async fn too_deep_results_and_errors_are_refused() {
    let fixture = Fixture::tcp().await;
    let client = &fixture.client;
    for depth in [0, 1, LIMIT - 1, LIMIT] {
        let expected = Deep(depth);
        assert_eq!(deep::call(client, depth).await.unwrap(), expected);
        assert_eq!(deep_async::call(client, depth).await.unwrap(), expected);
        assert_eq!(deep_inline::call(client, depth).await.unwrap(), expected);
        assert_eq!(deep_ok::call(client, depth).await.unwrap(), expected);
        let errors = [
            deep_error::call(client, depth).await,
            deep_error_async::call(client, depth).await,
            deep_error_inline::call(client, depth).await,
        ];
        for error in errors {
            assert_eq!(error.unwrap_err().failed(), Some(expected));
        }
    }
    for depth in [LIMIT + 1, 5_000, 1_000_000] {
        let rpc = |error: CallError<Deep>| match error {
            CallError::Rpc(error) => error,
            CallError::Failed(error) => panic!("{error}"),
        };
        let errors = [
            deep::call(client, depth).await.unwrap_err(),
            deep_async::call(client, depth).await.unwrap_err(),
            deep_inline::call(client, depth).await.unwrap_err(),
            rpc(deep_error::call(client, depth).await.unwrap_err()),
            rpc(deep_error_async::call(client, depth).await.unwrap_err()),
            rpc(deep_error_inline::call(client, depth).await.unwrap_err()),
        ];
        for error in &errors {
            check(error, ErrorKind::Failed, Ran::Yes, depth);
        }
        match deep_ok::call(client, depth).await.unwrap_err() {
            CallError::Rpc(error) => check(&error, ErrorKind::Failed, Ran::Yes, depth),
            CallError::Failed(error) => panic!("{error}"),
        }
    }
    fixture.end().await;
}

#[tokio::test]
async fn too_deep_arguments_are_refused_before_they_are_sent() {
    let fixture = Fixture::tcp().await;
    let client = &fixture.client;
    for depth in [0, 1, LIMIT] {
        let arguments = (Deep(depth), Deep(LIMIT));
        let sum = levels::call(client, 1, arguments.0, &arguments.1).await.unwrap();
        assert_eq!(sum, depth + LIMIT);
        let params = (1, arguments.0, arguments.1);
        assert_eq!(client.call_dynamic::<usize>("levels", params).await.unwrap(), depth + LIMIT);
        let named = serde_json::json!({ "_before": 1, "value": arguments.0, "after": null });
        assert_eq!(client.call_dynamic::<usize>("levels", named).await.unwrap(), depth);
    }
    for depth in [LIMIT + 1, 5_000, 1_000_000] {
        let error = levels::call(client, 1, Deep(depth), &Deep(0)).await.unwrap_err();
        check(&error, ErrorKind::BadArguments, Ran::No, depth);
        let error = levels::call(client, 1, Deep(0), &Deep(depth)).await.unwrap_err();
        check(&error, ErrorKind::BadArguments, Ran::No, depth);
        let error = levels::notify(client, 1, Deep(depth), &Deep(0)).await.unwrap_err();
        check(&error, ErrorKind::BadArguments, Ran::No, depth);
        let params = (1, Deep(depth), Deep(0));
        let error = client.call_dynamic::<usize>("levels", params).await.unwrap_err();
        check(&error, ErrorKind::BadArguments, Ran::No, depth);
    }
    fixture.end().await;
}

/// Asks for a call of a function whose only argument is `depth` times `opening`, and then nil.
async fn ask(peer: &mut RawClient, function: &str, opening: &[u8], depth: usize) -> String {
    let mut body = vec![0x94, 0, 7, 0xa0 | u8::try_from(function.len()).unwrap()];
    body.extend_from_slice(function.as_bytes());
    body.push(0x91);
    body.extend_from_slice(&opening.repeat(depth));
    body.push(0xc0);
    String::from_utf8_lossy(&peer.ask(&body).await).into_owned()
}

#[tokio::test]
async fn too_deep_input_is_refused() {
    let fixture = Fixture::tcp().await;
    let mut peer = RawClient::connect(fixture.server.endpoint()).await;
    // At the end of each is a nil, which is no number.
    for (opening, function) in [(&b"\x81\xa8Negative"[..], "depth_of"), (b"\x81\x01", "depth_of")] {
        for depth in [1, LIMIT, LIMIT + 1, 5_000, 1_000_000] {
            let reply = ask(&mut peer, function, opening, depth).await;
            assert!(reply.contains("bad_arguments"), "{reply}");
            let too_deep = reply.contains("nested deeper than 128 levels");
            assert_eq!(too_deep, depth > LIMIT, "{depth}: {reply}");
        }
    }
    fixture.end().await;
}
