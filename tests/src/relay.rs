//! A TCP relay between a client and a server that fails on demand, as networks do. The relay does
//! not interpret the bytes. Like TCP, it never loses bytes in the middle of a stream that
//! continues.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinSet},
    time,
};

/// The maximum number of bytes that the relay reads at a time.
const PIECE: usize = 64 * 1024;

/// The treatment of the bytes that come from one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The bytes are forwarded.
    Pass,
    /// Each piece that was read (64 KiB at most) is forwarded after this delay. The next piece is
    /// read after that.
    Delay(Duration),
    /// The bytes are not read, so the sender's buffers fill up.
    Freeze,
    /// The bytes are read and thrown away, and new connections are accepted as usual. A connection
    /// that has lost bytes never forwards any more bytes in this direction, whatever mode comes
    /// next.
    BlackHole,
}

/// The side that the bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The clients that connect to the relay.
    Client,
    /// The server that the relay connects to.
    Server,
}

/// The way in which connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// In order (FIN): bytes that were forwarded still arrive.
    Close,
    /// At once (RST): bytes in flight are lost.
    Reset,
}

/// A relay to one server, on a port of its own. Dropping the relay ends its connections.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    control: Arc<Control>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct Control {
    target: Mutex<SocketAddr>,
    client: watch::Sender<Mode>,
    server: watch::Sender<Mode>,
    /// The most recent cut of the connections, if any. Later connections ignore it.
    cut: watch::Sender<Option<Cut>>,
    open: AtomicUsize,
}

impl Relay {
    /// Starts a relay that forwards everything to `target`.
    ///
    /// # Panics
    /// Panics if there is no free port.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let control = Arc::new(Control {
            target: Mutex::new(target),
            client: watch::Sender::new(Mode::Pass),
            server: watch::Sender::new(Mode::Pass),
            cut: watch::Sender::new(None),
            open: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&control))).abort_handle();
        Self { address, control, accepting }
    }

    /// Returns the endpoint to which clients connect.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Forwards new connections to another server.
    ///
    /// # Panics
    /// Never panics: no thread panics while it holds the lock.
    pub fn retarget(&self, target: SocketAddr) {
        *self.control.target.lock().expect("nothing panics while it is held") = target;
    }

    /// Applies `mode` to the bytes that come `from` one side, on all present and future
    /// connections.
    pub fn set(&self, from: From, mode: Mode) {
        self.control.mode(from).send_replace(mode);
    }

    /// Calls [`set`](Self::set) for both sides.
    pub fn set_both(&self, mode: Mode) {
        self.set(From::Client, mode);
        self.set(From::Server, mode);
    }

    /// Ends all connections.
    pub fn cut(&self, cut: Cut) {
        self.control.cut.send_replace(Some(cut));
    }

    /// Returns the number of connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.control.open.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Control {
    fn mode(&self, from: From) -> &watch::Sender<Mode> {
        match from {
            From::Client => &self.client,
            From::Server => &self.server,
        }
    }
}

/// Accepts connections until the task is aborted, which ends the connections.
async fn accept(listener: TcpListener, control: Arc<Control>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                // `accept` fails when there are no file descriptors left. All the relay can do is
                // try again.
                let Ok((client, _)) = accepted else { time::sleep(Duration::from_millis(1)).await; continue };
                // The subscription happens here so that every cut after the accept ends this
                // connection.
                let cut = control.cut.subscribe();
                connections.spawn(carry(client, cut, Open::new(Arc::clone(&control))));
            }
        }
    }
}

/// A guard that counts a connection while it exists.
struct Open(Arc<Control>);

impl Open {
    fn new(control: Arc<Control>) -> Self {
        control.open.fetch_add(1, Ordering::SeqCst);
        Self(control)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn carry(mut client: TcpStream, mut cut: watch::Receiver<Option<Cut>>, open: Open) {
    let control = &open.0;
    let target = *control.target.lock().expect("nothing panics while it is held");
    // The server does not listen. The client finds its connection closed, as with a server that
    // died during the accept.
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let how = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let there = pump(from_client, to_server, control.client.subscribe());
        let back = pump(from_server, to_client, control.server.subscribe());
        tokio::select! {
            // One direction may end before the other.
            _ = async { tokio::try_join!(there, back) } => Cut::Close,
            _ = cut.changed() => cut.borrow().unwrap_or(Cut::Close),
        }
    };
    if how == Cut::Reset {
        for stream in [&client, &server] {
            let _ = stream.set_zero_linger();
        }
    }
}

/// Forwards one direction until the sender has ended it.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut mode: watch::Receiver<Mode>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut lost = false;
    loop {
        // The connection holds the control alive through its counter, so the sender of `mode` still
        // exists.
        let current = *mode.borrow_and_update();
        let len = tokio::select! {
            biased;
            _ = mode.changed() => continue,
            read = from.read(&mut piece), if current != Mode::Freeze => read?,
        };
        if lost || current == Mode::BlackHole {
            lost = true;
            if len == 0 {
                // The end of the sender's stream is not forwarded either.
                return std::future::pending().await;
            }
            continue;
        }
        if let Mode::Delay(delay) = current {
            time::sleep(delay).await;
        }
        if len == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..len]).await?;
    }
}

#[cfg(test)]
mod tests;
