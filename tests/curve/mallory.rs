//! A man in the middle, who sees and changes the frames between clients and a server.

use std::sync::Arc;

use tests::soon;
use tokio::{
    io::{self, AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

/// The length of a greeting of ZMTP 3, which comes before the first frame.
const GREETING: usize = 64;

/// A greeting, or a frame with its head, as one side sends it.
pub(crate) struct Frame {
    /// The number of the connection, from 0 on.
    pub(crate) connection: usize,
    /// True if the client has sent it.
    pub(crate) to_server: bool,
    /// The number in what this side has sent on this connection. The greeting has 0, and the
    /// handshake the next two.
    pub(crate) index: usize,
    pub(crate) bytes: Vec<u8>,
}

/// Returns what is passed on in place of a frame.
type Change = dyn Fn(Frame) -> Vec<Vec<u8>> + Send + Sync;

/// A proxy that changes frames, until it is dropped.
pub(crate) struct Mallory {
    pub(crate) endpoint: String,
    _tasks: JoinSet<()>,
}

impl Mallory {
    /// Listens for clients of the server at `endpoint`.
    pub(crate) async fn start(
        endpoint: &str,
        change: impl Fn(Frame) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = endpoint.strip_prefix("tcp://").unwrap().to_owned();
        let own = format!("tcp://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, Arc::new(change)));
        Self { endpoint: own, _tasks: tasks }
    }
}

async fn accept(listener: TcpListener, server: String, change: Arc<Change>) {
    // They end with this task.
    let mut pumps = JoinSet::new();
    for connection in 0.. {
        let (client, _) = listener.accept().await.unwrap();
        let server = soon("the server accepts", TcpStream::connect(&server)).await.unwrap();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        pumps.spawn(pump(connection, true, from_client, to_server, Arc::clone(&change)));
        pumps.spawn(pump(connection, false, from_server, to_client, Arc::clone(&change)));
    }
}

/// Passes on what one side sends, until either side closes.
async fn pump(
    connection: usize,
    to_server: bool,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    change: Arc<Change>,
) {
    for index in 0.. {
        let bytes =
            if index == 0 { read(&mut from, GREETING).await } else { frame(&mut from).await };
        let Ok(bytes) = bytes else { break };
        for bytes in change(Frame { connection, to_server, index, bytes }) {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }
}

async fn read(from: &mut OwnedReadHalf, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Reads a frame: its flags, its size of one or eight bytes, and its content.
async fn frame(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    const LONG: u8 = 2;
    let mut bytes = read(from, 1).await?;
    let size = read(from, if bytes[0] & LONG == 0 { 1 } else { 8 }).await?;
    let length = size.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    bytes.extend(size);
    bytes.extend(read(from, length).await?);
    Ok(bytes)
}
