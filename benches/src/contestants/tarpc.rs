//! tarpc: TCP and bincode, set up as in tarpc's own example.
//!
//! `TCP_NODELAY` is not set, as in tarpc's own transport. With the option, tarpc took more CPU time
//! at 64 calls in flight, and there was no difference at one.

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

use crate::{Failure, contestants::print_endpoint, drive::Caller, work};

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
    print_endpoint(listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let channel = BaseChannel::with_defaults(Transport::from((stream, Bincode::default())));
        let requests = channel.execute(Functions.serve());
        tokio::spawn(requests.for_each(async |response| drop(tokio::spawn(response))));
    }
}

/// A tarpc client. Its requests expire after ten seconds, the default of tarpc's contexts.
#[derive(Debug, Clone)]
pub(crate) struct TarpcCaller(ServiceClient);

pub(crate) async fn connect(endpoint: &str) -> Result<TarpcCaller, Failure> {
    let stream = TcpStream::connect(endpoint).await?;
    // The defaults are below the 1,024 calls that a work has in flight.
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

/// Returns a context whose deadline counts from now.
fn now() -> Context {
    let context = context::current();
    debug_assert!(context.deadline > Instant::now());
    context
}
