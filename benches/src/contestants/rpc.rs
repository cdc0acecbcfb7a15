//! This library: the same two functions inline, on the worker pool and async.

// The async functions wait for nothing: the benchmark measures how the server runs them.
#![allow(clippy::unused_async)]

use std::{collections::HashMap, future, iter, process, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, stream};
use rpc_core::{Client, Engine, Server, ServerBuilder, ServerHandle, remote};

#[cfg(feature = "curve")]
use super::curve;
use crate::{
    Failure,
    contestant::{Carrier, Execution, Threads},
    contestants::{broker, print_endpoint},
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

#[remote]
fn items_pool(bytes: usize) -> impl Iterator<Item = Bytes> + Send {
    iter::repeat(work::data(bytes))
}

#[remote]
async fn items_async(bytes: usize) -> impl Stream<Item = Bytes> + Send {
    stream::repeat(work::data(bytes))
}

pub(crate) async fn serve(carrier: Carrier) -> Result<(), Failure> {
    let endpoint = match carrier {
        Carrier::Tcp(_) | Carrier::Curve => "tcp://127.0.0.1:0".to_owned(),
        Carrier::Ipc => {
            format!("ipc://{}/bench-{}", std::env::temp_dir().display(), process::id())
        }
        // The client's process serves.
        Carrier::Inproc => {
            print_endpoint("inproc://bench")?;
            return future::pending().await;
        }
        Carrier::Amqp | Carrier::AmqpPacked => {
            broker::endpoint(&broker::broker().ok_or("BENCH_BROKER names no broker")?)
        }
    };
    let server = builder(carrier).bind(&endpoint).await?;
    match carrier {
        Carrier::Tcp(_) | Carrier::Curve | Carrier::Ipc | Carrier::Inproc => {
            print_endpoint(server.endpoint())?;
        }
        Carrier::Amqp => print_endpoint(endpoint)?,
        Carrier::AmqpPacked => print_endpoint(format!("{endpoint}&pack=64"))?,
    }
    server.serve_until(future::pending::<()>()).await?;
    Ok(())
}

fn builder(carrier: Carrier) -> ServerBuilder {
    let builder = Server::builder().engine(engine(carrier)).workers(2);
    #[cfg(feature = "curve")]
    if carrier == Carrier::Curve {
        return curve::serve(builder);
    }
    builder
}

fn engine(carrier: Carrier) -> Engine {
    match carrier {
        Carrier::Tcp(engine) => engine,
        Carrier::Curve => Engine::Omq,
        _ => Engine::default(),
    }
}

/// A client, and the execution of the functions that it calls.
#[derive(Debug, Clone)]
pub(crate) struct RpcCaller {
    client: Client,
    execution: Execution,
    /// The server, if it runs in this process.
    _server: Option<Arc<ServerHandle>>,
}

pub(crate) async fn connect(
    execution: Execution,
    carrier: Carrier,
    threads: Threads,
    endpoint: &str,
) -> Result<RpcCaller, Failure> {
    let mut builder = Client::builder().engine(engine(carrier));
    #[cfg(feature = "curve")]
    if carrier == Carrier::Curve {
        builder = curve::call(builder);
    }
    if threads == Threads::One {
        builder = builder.use_current_runtime();
    }
    let server = match carrier {
        // Only the first of several clients finds the name free.
        Carrier::Inproc => self::builder(carrier).bind(endpoint).await.ok(),
        _ => None,
    };
    let server = server.map(Server::spawn).transpose()?.map(Arc::new);
    Ok(RpcCaller { client: builder.connect(endpoint).await?, execution, _server: server })
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

    async fn items(
        &self,
        bytes: usize,
        mut take: impl FnMut(Bytes) -> Result<bool, Failure> + Send,
    ) -> Result<(), Failure> {
        if self.execution == Execution::Async {
            let mut items = items_async::call(&self.client, bytes);
            while take(items.next().await.ok_or("an endless stream has ended")??)? {}
        } else {
            let mut items = items_pool::call(&self.client, bytes);
            while take(items.next().await.ok_or("an endless stream has ended")??)? {}
        }
        Ok(())
    }
}
