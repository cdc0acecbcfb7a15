//! tonic: HTTP/2 and Protocol Buffers. The messages are what `prost` would generate, the service is
//! generated.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use self::generated::{
    work_client::WorkClient,
    work_server::{Work, WorkServer},
};
use crate::{Failure, contestants::announce, drive::Caller, work};

#[allow(clippy::pedantic, unreachable_pub, missing_docs)] // It is not ours.
mod generated {
    include!(concat!(env!("OUT_DIR"), "/bench.Work.rs"));
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Data {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Counts {
    #[prost(map = "string, uint64", tag = "1")]
    counts: HashMap<String, u64>,
}

struct Functions;

#[tonic::async_trait]
impl Work for Functions {
    async fn echo(&self, request: Request<Data>) -> Result<Response<Data>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn count_words(&self, request: Request<Text>) -> Result<Response<Counts>, Status> {
        let counts = work::count_words(&request.into_inner().text);
        Ok(Response::new(Counts { counts }))
    }
}

pub(crate) async fn serve() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?)?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    // The default is 200, which would hold back most of 1,024 calls.
    let mut server = Server::builder().max_concurrent_streams(2048);
    server.add_service(WorkServer::new(Functions)).serve_with_incoming(incoming).await?;
    Ok(())
}

#[derive(Debug, Clone)]
pub(crate) struct TonicCaller(WorkClient<Channel>);

pub(crate) async fn connect(endpoint: &str) -> Result<TonicCaller, Failure> {
    let channel = Endpoint::from_shared(format!("http://{endpoint}"))?.connect().await?;
    Ok(TonicCaller(WorkClient::new(channel)))
}

impl Caller for TonicCaller {
    async fn echo(&self, data: Bytes) -> Result<Bytes, Failure> {
        Ok(self.0.clone().echo(Data { data }).await?.into_inner().data)
    }

    async fn count_words(&self, text: &'static str) -> Result<HashMap<String, u64>, Failure> {
        let text = text.to_owned();
        Ok(self.0.clone().count_words(Text { text }).await?.into_inner().counts)
    }
}
