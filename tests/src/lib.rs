//! What the tests have in common: endpoints, peers that speak raw bytes, and a gate that functions
//! wait at. In files of their own: server processes, a relay, and what else the tests of
//! reliability need.

pub mod golden;
pub mod ledger;
pub mod mutate;
pub mod process;
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

/// A server to be configured, on the engine that `RPC_TEST_ENGINE` names: `zeromq`, which is also
/// what runs without it, `omq`, `mixed` (servers on `omq`, clients on `zeromq`) or `mixed-reverse`.
/// Every test of servers and clients begins here, so that all of them run on all engines.
///
/// # Panics
/// If there is no such engine.
#[must_use]
pub fn server() -> ServerBuilder {
    Server::builder().engine(engines().0)
}

/// A client to be configured, see [`server`].
///
/// # Panics
/// If there is no such engine.
#[must_use]
pub fn client() -> ClientBuilder {
    Client::builder().engine(engines().1)
}

/// The engines of servers and of clients.
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

/// A name that no other test uses, in this process or another.
#[must_use]
pub fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("rpc-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An endpoint of each transport, to bind.
#[must_use]
pub fn endpoints() -> [String; 3] {
    ["tcp://127.0.0.1:0".to_owned(), ipc(), format!("inproc://{}", unique())]
}

/// An ipc endpoint.
#[must_use]
pub fn ipc() -> String {
    format!("ipc://{}/{}.sock", std::env::temp_dir().display(), unique())
}

/// What a test waits for, at most, before it fails: far more than it takes on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Fails the test if `future` takes longer than any machine would.
///
/// # Panics
/// When it does.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("it hangs: {what}"))
}

/// Where functions wait, so that a test sees them start and decides when they end.
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

/// Tells the gate that a function has ended, whichever way.
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

    /// Waits, as a sync function, until the gate is open or `cancelled` says so. `true` if it is
    /// open.
    ///
    /// # Panics
    /// If another function panicked while it waited.
    pub fn pass(&self, cancelled: impl Fn() -> bool) -> bool {
        let mut open = self.open.lock().expect("nothing panics while it is held");
        while !*open && !cancelled() {
            let tick = Duration::from_millis(1);
            open =
                self.changed.wait_timeout(open, tick).expect("nothing panics while it is held").0;
        }
        *open
    }

    /// Waits, as an async function, until the gate is open.
    ///
    /// # Panics
    /// Never: the semaphore is not closed.
    pub async fn pass_async(&self) {
        let _permit = self.opened.acquire().await.expect("it is never closed");
    }

    /// Lets everything pass.
    ///
    /// # Panics
    /// If a function panicked while it waited.
    pub fn open(&self) {
        *self.open.lock().expect("nothing panics while it is held") = true;
        self.changed.notify_all();
        self.opened.add_permits(1_000_000);
    }

    /// Waits until `count` more functions have started.
    ///
    /// # Panics
    /// If they do not.
    pub async fn entered(&self, count: u32) {
        soon("functions start", self.entered.acquire_many(count))
            .await
            .expect("it is never closed")
            .forget();
    }

    /// Waits until `count` more functions have ended.
    ///
    /// # Panics
    /// If they do not.
    pub async fn left(&self, count: u32) {
        soon("functions end", self.left.acquire_many(count))
            .await
            .expect("it is never closed")
            .forget();
    }

    /// How many functions have started that were not waited for.
    #[must_use]
    pub fn unseen(&self) -> usize {
        self.entered.available_permits()
    }
}

/// A DEALER that sends and receives frames as they are.
#[allow(missing_debug_implementations)]
pub struct RawClient(DealerSocket);

impl RawClient {
    /// Connects.
    ///
    /// # Panics
    /// If nobody is there.
    pub async fn connect(endpoint: &str) -> Self {
        let mut socket = DealerSocket::new();
        socket.connect(endpoint).await.expect("a server listens");
        Self(socket)
    }

    /// Sends frames.
    ///
    /// # Panics
    /// If the connection is lost.
    pub async fn send(&mut self, frames: &[&[u8]]) {
        let frames: Vec<_> = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
        let message = ZmqMessage::try_from(frames).expect("there is a frame");
        self.0.send(message).await.expect("the connection lasts");
    }

    /// Receives the frames of one message.
    ///
    /// # Panics
    /// If none comes.
    pub async fn recv(&mut self) -> Vec<Bytes> {
        soon("a reply", self.0.recv()).await.expect("the connection lasts").into_vec()
    }

    /// Sends a body as REQ would, and receives the body of the answer.
    ///
    /// # Panics
    /// If none comes.
    pub async fn ask(&mut self, body: &[u8]) -> Bytes {
        self.send(&[b"", body]).await;
        self.recv().await.pop().expect("a message has a frame")
    }
}

/// A ROUTER that sends and receives frames as they are.
#[allow(missing_debug_implementations)]
pub struct RawServer {
    socket: RouterSocket,
    /// Where it listens.
    pub endpoint: String,
}

impl RawServer {
    /// Listens on a free port.
    ///
    /// # Panics
    /// If there is none.
    pub async fn bind() -> Self {
        let mut socket = RouterSocket::new();
        let endpoint =
            socket.bind("tcp://127.0.0.1:0").await.expect("there is a free port").to_string();
        Self { socket, endpoint }
    }

    /// Receives identity, empty frame and body.
    ///
    /// # Panics
    /// If nothing comes.
    pub async fn recv(&mut self) -> [Bytes; 3] {
        let frames =
            soon("a request", self.socket.recv()).await.expect("the socket lasts").into_vec();
        frames.try_into().expect("identity, empty frame, body")
    }

    /// Sends `body` back to where `identity` names.
    ///
    /// # Panics
    /// If the peer has gone.
    pub async fn send(&mut self, identity: &Bytes, body: &[u8]) {
        let frames = vec![identity.clone(), Bytes::new(), Bytes::copy_from_slice(body)];
        let message = ZmqMessage::try_from(frames).expect("there is a frame");
        self.socket.send(message).await.expect("the peer is there");
    }
}
