//! The bytes of a stream over bare TCP: no messages, no credit, no decoding.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    Failure,
    contestants::print_endpoint,
    drive::Caller,
    work::{KIB, data},
};

/// The bytes of a write.
const CHUNK: usize = 64 * KIB;

pub(crate) async fn serve() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    print_endpoint(listener.local_addr()?)?;
    let chunk = data(CHUNK);
    loop {
        let (mut connection, _) = listener.accept().await?;
        let chunk = chunk.clone();
        // It ends with the connection.
        tokio::spawn(async move { while connection.write_all(&chunk).await.is_ok() {} });
    }
}

#[derive(Debug, Clone)]
pub(crate) struct CopyCaller(pub(crate) Arc<str>);

impl Caller for CopyCaller {
    async fn echo(&self, _: Bytes) -> Result<Bytes, Failure> {
        Err("it only copies".into())
    }

    async fn count_words(&self, _: &'static str) -> Result<HashMap<String, u64>, Failure> {
        Err("it only copies".into())
    }

    async fn items(
        &self,
        bytes: usize,
        mut take: impl FnMut(Bytes) -> Result<bool, Failure> + Send,
    ) -> Result<(), Failure> {
        let mut connection = TcpStream::connect(&*self.0).await?;
        loop {
            let mut chunk = vec![0; bytes];
            connection.read_exact(&mut chunk).await?;
            if !take(chunk.into())? {
                return Ok(());
            }
        }
    }
}
