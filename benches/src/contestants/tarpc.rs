//! tarpc: TCP and bincode, as its own example does it.
//!
//! As in its own transport, `TCP_NODELAY` is not set. It was tried: with 64 calls in flight tarpc
//! then took more CPU time, with one it made no difference.

use std::{collections::HashMap, time::Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tarpc::{
    client::Config,
    context::{self, Context},
    serde_transport::Transport,
    server::{BaseChannel, Channel as _},
    tokio_serde::formats::Bincode,
};
use tokio::net::{TcpListener, TcpStream};

use crate::{Failure, contestants::announce, drive::Caller, work};

#[tarpc::service]
trait Service {
    async fn echo(data: Bytes) -> Bytes;
    async fn count_words(text: String) -> HashMap<String, u64>;
}

#[derive(Clone)]
struct Functions;

impl Service for Functions {
    async fn echo(self, _: Context, data: Bytes) -> Bytes {
        data
    }

    async fn count_words(self, _: Context, text: String) -> HashMap<String, u64> {
        work::count_words(&text)
    }
}

pub(crate) async fn serve() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let channel = BaseChannel::with_defaults(Transport::from((stream, Bincode::default())));
        let requests = channel.execute(Functions.serve());
        tokio::spawn(requests.for_each(async |response| drop(tokio::spawn(response))));
    }
}

/// Its requests expire after ten seconds, which is what its contexts have by default.
#[derive(Debug, Clone)]
pub(crate) struct TarpcCaller(ServiceClient);

pub(crate) async fn connect(endpoint: &str) -> Result<TarpcCaller, Failure> {
    let stream = TcpStream::connect(endpoint).await?;
    // Its defaults are below the 1,024 calls that are to be in flight.
    let mut config = Config::default();
    config.max_in_flight_requests = 2048;
    config.pending_request_buffer = 2048;
    let transport = Transport::from((stream, Bincode::default()));
    Ok(TarpcCaller(ServiceClient::new(config, transport).spawn()))
}

impl Caller for TarpcCaller {
    async fn echo(&self, data: Bytes) -> Result<Bytes, Failure> {
        Ok(self.0.echo(now(), data).await?)
    }

    async fn count_words(&self, text: &'static str) -> Result<HashMap<String, u64>, Failure> {
        Ok(self.0.count_words(now(), text.to_owned()).await?)
    }
}

fn now() -> Context {
    let context = context::current();
    debug_assert!(context.deadline > Instant::now());
    context
}
