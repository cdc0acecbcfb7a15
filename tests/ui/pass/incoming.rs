//! Functions that take a stream as an argument, in all forms.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use rpc_core::{CallError, Client, Context, Incoming, RpcError, remote};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Row(u32);

pub struct Store;

#[remote]
pub async fn import(mut rows: Incoming<Row>) -> Result<u64, String> {
    let mut count = 0;
    while let Some(row) = rows.next().await {
        row.map_err(|error| error.to_string())?;
        count += 1;
    }
    Ok(count)
}

#[remote]
fn import_sync(rows: Incoming<Row>) -> usize {
    rows.wait().map_while(Result::ok).count()
}

#[remote]
async fn among_others(
    #[context] cx: &Context,
    table: &str,
    rows: rpc_core::Incoming<Row>,
    #[state] _store: &Store,
    options: Option<&[u8]>,
) -> String {
    drop(rows);
    format!("{table} {options:?} {:?}", cx.remaining())
}

#[remote]
async fn chunks(chunks: Incoming<Bytes>) -> u64 {
    chunks.count().await as u64
}

#[remote]
async fn translate(words: Incoming<String>, to: &str) -> impl Stream<Item = String> + Send {
    words.map(move |word| format!("{} in {to}", word.unwrap_or_default()))
}

#[remote]
fn translate_sync(words: Incoming<String>) -> impl Iterator<Item = String> + Send {
    words.wait().map_while(Result::ok)
}

#[remote]
fn hashes(words: Incoming<String>) -> Result<impl Iterator<Item = Result<u64, String>>, String> {
    Ok(words.wait().map(|word| Ok(word.map_err(|error| error.to_string())?.len() as u64)))
}

mod declared {
    use super::Row;

    #[rpc_core::remote]
    pub fn far(table: &str, rows: rpc_core::Incoming<Row>) -> u64;
}

#[remote(implements = declared::far)]
async fn far(table: &str, rows: Incoming<Row>) -> u64 {
    let _ = table;
    rows.count().await as u64
}

pub async fn calls(client: &Client) {
    let rows = || stream::iter([Row(1)]);
    let words = || stream::iter(["a".to_owned()]);
    let _: Result<u64, CallError<String>> = import::call(client, rows()).await;
    let _: Result<usize, RpcError> = import_sync::call(client, rows()).wait();
    let _: Result<String, RpcError> = among_others::call(client, "t", rows(), None).await;
    let _: Result<u64, RpcError> = chunks::call(client, stream::empty()).await;
    let _: Option<Result<String, RpcError>> = translate::call(client, words(), "de").next().await;
    let _: Option<Result<String, RpcError>> = translate_sync::call(client, words()).wait().next();
    let _: Option<Result<u64, CallError<String>>> = hashes::call(client, words()).next().await;
    let _: Result<u64, RpcError> = declared::far::call(client, "t", rows()).await;
    // It is a plain function as well.
    let _: Result<u64, String> = import(vec![Row(1)].into()).await;
}

fn main() {
    fn is_thread_safe<T: Send + Sync>(_: T) {}
    fn check(client: &Client) {
        is_thread_safe(import::call(client, stream::iter([Row(1)])));
        is_thread_safe(translate::call(client, stream::empty(), "de"));
    }
    let _ = check;
}
