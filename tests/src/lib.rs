//! The common parts of the tests: endpoints, peers that send raw bytes, and a gate at which remote
//! functions wait. The modules have server processes, a relay, and the other tools of the
//! reliability tests.

pub mod etcd;
pub mod follow;
pub mod golden;
mod guarded;
pub mod ledger;
pub mod log;
pub mod mutate;
pub mod process;
pub mod rabbitmq;
pub mod relay;
pub mod resources;
pub mod served;

use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rpc_core::{Client, ClientBuilder, Engine, Server, ServerBuilder};
use tokio::sync::Semaphore;
use zeromq::{DealerSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

/// Returns a builder for a server on the engine that `RPC_TEST_ENGINE` names. The values are
/// `zeromq`, which is the default, `omq`, `mixed` (servers on `omq`, clients on `zeromq`) and
/// `mixed-reverse`. Every test of servers and clients begins here, so that all of them run on all
/// engines.
///
/// # Panics
/// Panics if the variable names an unknown engine.
#[must_use]
pub fn server() -> ServerBuilder {
    Server::builder().engine(engines().0)
}

/// Returns a builder for a client, see [`server`].
///
/// # Panics
/// Panics if the variable names an unknown engine.
#[must_use]
pub fn client() -> ClientBuilder {
    Client::builder().engine(engines().1)
}

/// Returns the engine of the servers and the engine of the clients.
fn engines() -> (Engine, Engine) {
    match std::env::var("RPC_TEST_ENGINE").as_deref() {
        Err(_) | Ok("" | "zeromq") => (Engine::Zeromq, Engine::Zeromq),
        #[cfg(feature = "omq")]
        Ok("omq") => (Engine::Omq, Engine::Omq),
        #[cfg(feature = "omq")]
        Ok("mixed") => (Engine::Omq, Engine::Zeromq),
        #[cfg(feature = "omq")]
        Ok("mixed-reverse") => (Engine::Zeromq, Engine::Omq),
        Ok(other) => {
            panic!("RPC_TEST_ENGINE is `{other}`, which is none, or needs `--features omq`")
        }
    }
}

/// Returns a name that no other test uses, in this process or another.
#[must_use]
pub fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("rpc-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Returns one endpoint to bind for each transport.
#[must_use]
pub fn endpoints() -> [String; 3] {
    ["tcp://127.0.0.1:0".to_owned(), ipc(), format!("inproc://{}", unique())]
}

/// Returns an ipc endpoint.
#[must_use]
pub fn ipc() -> String {
    format!("ipc://{}/{}.sock", std::env::temp_dir().display(), unique())
}

/// The maximum time that a test waits before it fails. This is far longer than any step takes on
/// the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for `future`, and fails the test if that takes longer than [`PATIENCE`].
///
/// # Panics
/// Panics when the time is up.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("it hangs: {what}"))
}

/// A gate at which remote functions wait, so that a test sees them start and decides when they end.
#[derive(Debug)]
pub struct Gate {
    entered: Semaphore,
    left: Semaphore,
    opened: Semaphore,
    open: Mutex<bool>,
    changed: Condvar,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            entered: Semaphore::new(0),
            left: Semaphore::new(0),
            opened: Semaphore::new(0),
            open: Mutex::new(false),
            changed: Condvar::new(),
        }
    }
}

/// A guard that tells the gate on drop that a function has ended, by any path.
#[derive(Debug)]
pub struct Inside<'a>(&'a Gate);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.left.add_permits(1);
    }
}

impl Gate {
    /// Tells the gate that a function has started.
    pub fn enter(&self) -> Inside<'_> {
        self.entered.add_permits(1);
        Inside(self)
    }

    /// Waits in a sync function until the gate is open or `cancelled` returns true. Returns `true`
    /// if the gate is open.
    ///
    /// # Panics
    /// Panics if another function panicked while it held the lock.
    pub fn pass(&self, cancelled: impl Fn() -> bool) -> bool {
        let mut open = self.open.lock().expect("nothing panics while it is held");
        while !*open && !cancelled() {
            let tick = Duration::from_millis(1);
            open =
                self.changed.wait_timeout(open, tick).expect("nothing panics while it is held").0;
        }
        *open
    }

    /// Waits in an async function until the gate is open.
    ///
    /// # Panics
    /// Never panics: the semaphore is not closed.
    pub async fn pass_async(&self) {
        let _permit = self.opened.acquire().await.expect("it is never closed");
    }

    /// Opens the gate for all functions.
    ///
    /// # Panics
    /// Panics if a function panicked while it held the lock.
    pub fn open(&self) {
        *self.open.lock().expect("nothing panics while it is held") = true;
        self.changed.notify_all();
        self.opened.add_permits(1_000_000);
    }

    /// Waits until `count` more functions have started.
    ///
    /// # Panics
    /// Panics if they do not start within [`PATIENCE`].
    pub async fn entered(&self, count: u32) {
        soon("functions start", self.entered.acquire_many(count))
            .await
            .expect("it is never closed")
            .forget();
    }

    /// Waits until `count` more functions have ended.
    ///
    /// # Panics
    /// Panics if they do not end within [`PATIENCE`].
    pub async fn left(&self, count: u32) {
        soon("functions end", self.left.acquire_many(count))
            .await
            .expect("it is never closed")
            .forget();
    }

    /// Returns the number of functions that have started without a test having waited for them.
    #[must_use]
    pub fn unseen(&self) -> usize {
        self.entered.available_permits()
    }
}

/// A DEALER socket that sends and receives frames unchanged.
#[allow(missing_debug_implementations)]
pub struct RawClient(DealerSocket);

impl RawClient {
    /// Connects to a server.
    ///
    /// # Panics
    /// Panics if no server listens.
    pub async fn connect(endpoint: &str) -> Self {
        let mut socket = DealerSocket::new();
        socket.connect(endpoint).await.expect("a server listens");
        Self(socket)
    }

    /// Sends frames.
    ///
    /// # Panics
    /// Panics if the connection is lost.
    pub async fn send(&mut self, frames: &[&[u8]]) {
        let frames: Vec<_> = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
        let message = ZmqMessage::try_from(frames).expect("there is a frame");
        self.0.send(message).await.expect("the connection lasts");
    }

    /// Receives the frames of one message.
    ///
    /// # Panics
    /// Panics if no message arrives within [`PATIENCE`].
    pub async fn recv(&mut self) -> Vec<Bytes> {
        soon("a reply", self.0.recv()).await.expect("the connection lasts").into_vec()
    }

    /// Sends a body in the envelope of a REQ socket, and receives the body of the answer.
    ///
    /// # Panics
    /// Panics if no message arrives within [`PATIENCE`].
    pub async fn ask(&mut self, body: &[u8]) -> Bytes {
        self.send(&[b"", body]).await;
        self.recv().await.pop().expect("a message has a frame")
    }
}

/// A ROUTER socket that sends and receives frames unchanged.
#[allow(missing_debug_implementations)]
pub struct RawServer {
    socket: RouterSocket,
    /// The endpoint on which the socket listens.
    pub endpoint: String,
}

impl RawServer {
    /// Listens on a free port.
    ///
    /// # Panics
    /// Panics if there is no free port.
    pub async fn bind() -> Self {
        let mut socket = RouterSocket::new();
        let endpoint =
            socket.bind("tcp://127.0.0.1:0").await.expect("there is a free port").to_string();
        Self { socket, endpoint }
    }

    /// Receives the identity, the empty frame and the body of one message.
    ///
    /// # Panics
    /// Panics if no message arrives within [`PATIENCE`].
    pub async fn recv(&mut self) -> [Bytes; 3] {
        let frames =
            soon("a request", self.socket.recv()).await.expect("the socket lasts").into_vec();
        frames.try_into().expect("identity, empty frame, body")
    }

    /// Sends `body` to the peer with this `identity`.
    ///
    /// # Panics
    /// Panics if the peer has disconnected.
    pub async fn send(&mut self, identity: &Bytes, body: &[u8]) {
        let frames = vec![identity.clone(), Bytes::new(), Bytes::copy_from_slice(body)];
        let message = ZmqMessage::try_from(frames).expect("there is a frame");
        self.socket.send(message).await.expect("the peer is there");
    }
}
