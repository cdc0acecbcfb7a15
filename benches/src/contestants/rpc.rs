//! This library: the same two functions inline, on the worker pool and async.

// The async functions wait for nothing: the benchmark measures how the server runs them.
#![allow(clippy::unused_async)]

use std::{collections::HashMap, future};

use bytes::Bytes;
use rpc_core::{Client, Engine, Server, remote};

use crate::{
    Failure,
    contestant::{Execution, Threads},
    contestants::print_endpoint,
    drive::Caller,
    work,
};

#[remote(inline)]
pub(crate) fn echo_inline(data: Bytes) -> Bytes {
    data
}

#[remote]
pub(crate) fn echo_pool(data: Bytes) -> Bytes {
    data
}

#[remote]
async fn echo_async(data: Bytes) -> Bytes {
    data
}

#[remote(inline)]
fn count_words_inline(text: &str) -> HashMap<String, u64> {
    work::count_words(text)
}

#[remote]
fn count_words_pool(text: &str) -> HashMap<String, u64> {
    work::count_words(text)
}

#[remote]
async fn count_words_async(text: &str) -> HashMap<String, u64> {
    work::count_words(text)
}

pub(crate) async fn serve(engine: Engine) -> Result<(), Failure> {
    let server = Server::builder().engine(engine).workers(2).bind("tcp://127.0.0.1:0").await?;
    print_endpoint(server.endpoint())?;
    server.serve_until(future::pending::<()>()).await?;
    Ok(())
}

/// A client, and the execution of the functions that it calls.
#[derive(Debug, Clone)]
pub(crate) struct RpcCaller {
    client: Client,
    execution: Execution,
}

pub(crate) async fn connect(
    execution: Execution,
    engine: Engine,
    threads: Threads,
    endpoint: &str,
) -> Result<RpcCaller, Failure> {
    let mut builder = Client::builder().engine(engine);
    if threads == Threads::One {
        builder = builder.use_current_runtime();
    }
    Ok(RpcCaller { client: builder.connect(endpoint).await?, execution })
}

impl Caller for RpcCaller {
    async fn echo(&self, data: Bytes) -> Result<Bytes, Failure> {
        Ok(match self.execution {
            Execution::Inline => echo_inline::call(&self.client, data).await?,
            Execution::Blocking => echo_pool::call(&self.client, data).await?,
            Execution::Async => echo_async::call(&self.client, data).await?,
        })
    }

    async fn count_words(&self, text: &'static str) -> Result<HashMap<String, u64>, Failure> {
        Ok(match self.execution {
            Execution::Inline => count_words_inline::call(&self.client, text).await?,
            Execution::Blocking => count_words_pool::call(&self.client, text).await?,
            Execution::Async => count_words_async::call(&self.client, text).await?,
        })
    }
}
