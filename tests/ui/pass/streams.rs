//! Functions that return many items, in all forms.

use std::pin::Pin;

use futures_util::{Stream, stream, stream::BoxStream};
use rpc_core::{CallError, Client, RemoteStream, RpcError, Streaming, remote};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Row(u32);

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("it is broken")]
pub struct Broken;

#[remote]
pub fn primes(below: u64) -> impl Iterator<Item = u64> + Send {
    2..below
}

#[remote]
async fn lines(path: &str, prefix: Option<&str>) -> impl Stream<Item = String> + Send {
    let prefix = prefix.unwrap_or_default();
    stream::iter(path.lines().map(move |line| format!("{prefix}{line}")))
}

#[remote]
async fn rows(
    broken: bool,
) -> Result<impl Stream<Item = Result<Row, Broken>> + Send, Broken> {
    if broken { Err(Broken) } else { Ok(stream::iter([Ok(Row(1)), Err(Broken)])) }
}

#[remote]
fn boxed() -> Box<dyn Iterator<Item = Row> + Send> {
    Box::new(std::iter::once(Row(1)))
}

#[remote]
async fn boxed_stream() -> Pin<Box<dyn Stream<Item = Row> + Send>> {
    Box::pin(stream::iter([Row(1)]))
}

#[remote]
async fn named_box() -> BoxStream<'static, Row> {
    Box::pin(stream::iter([Row(1)]))
}

mod declared {
    use super::Row;

    #[rpc_core::remote]
    pub fn far(query: &str) -> impl Iterator<Item = Row>;

    #[rpc_core::remote]
    pub async fn farther(query: &str) -> impl futures_util::Stream<Item = Row>;
}

async fn first<F: RemoteStream>(items: &mut Streaming<F>) -> Option<Result<F::Item, F::Error>> {
    items.next().await
}

pub async fn calls(client: &Client) {
    let _: Option<Result<u64, RpcError>> = first(&mut primes::call(client, 10)).await;
    let _: Option<Result<String, RpcError>> = lines::call(client, "a", None).next().await;
    let _: Option<Result<Row, CallError<Broken>>> = rows::call(client, false).next().await;
    let _: Option<Result<Row, RpcError>> = boxed::call(client).wait().next();
    let _: Option<Result<Row, RpcError>> = boxed_stream::call(client).window(10).next().await;
    let _: Option<Result<Row, RpcError>> = named_box::call(client).next().await;
    let _: Option<Result<Row, RpcError>> = declared::far::call(client, "a").next().await;
    let _: Option<Result<Row, RpcError>> = declared::farther::call(client, "a").next().await;
    let _: Result<Vec<u64>, RpcError> = client.call(primes::args(10)).await;
}

fn main() {}
