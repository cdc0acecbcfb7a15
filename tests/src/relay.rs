//! A TCP relay between a client and a server that fails on demand as networks do. It knows nothing
//! of what it carries, and never loses a byte in the middle of a stream that goes on: TCP does not
//! either.

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

/// How much is read at a time, in bytes.
const PIECE: usize = 64 * 1024;

/// What happens to the bytes that come from one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are passed on.
    Pass,
    /// Each piece that was read (64 KiB at most) is passed on this much later, and the next is read
    /// after that.
    Delay(Duration),
    /// They are not read: the sender's buffers fill up.
    Freeze,
    /// They are read and thrown away, and new connections are accepted, as if all were well. A
    /// connection that has lost bytes passes nothing on any more in this direction, whatever mode
    /// comes next.
    BlackHole,
}

/// Whose bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Of those that connect to the relay.
    Client,
    /// Of the server that the relay connects to.
    Server,
}

/// How connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// In order (FIN): what was passed on arrives.
    Close,
    /// At once (RST): what is on its way is lost.
    Reset,
}

/// A relay to one server, on a port of its own. Dropping it ends it and its connections.
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
    /// How the connections were last cut, if they were. Those that come later do not look at it.
    cut: watch::Sender<Option<Cut>>,
    open: AtomicUsize,
}

impl Relay {
    /// Begins to pass everything on to `target`.
    ///
    /// # Panics
    /// If there is no free port.
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

    /// Where clients connect to.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Connects whoever comes from now on to another server.
    ///
    /// # Panics
    /// Never: nothing panics while the address is locked.
    pub fn retarget(&self, target: SocketAddr) {
        *self.control.target.lock().expect("nothing panics while it is held") = target;
    }

    /// Treats the bytes that come `from` one side as `mode` says, on all connections and those to
    /// come.
    pub fn set(&self, from: From, mode: Mode) {
        self.control.mode(from).send_replace(mode);
    }

    /// [`set`](Self::set) for both sides.
    pub fn set_both(&self, mode: Mode) {
        self.set(From::Client, mode);
        self.set(From::Server, mode);
    }

    /// Ends all connections.
    pub fn cut(&self, cut: Cut) {
        self.control.cut.send_replace(Some(cut));
    }

    /// How many connections there are.
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

/// Takes connections until it is aborted, which ends them.
async fn accept(listener: TcpListener, control: Arc<Control>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                // Without files to open there is nothing to do but to try again.
                let Ok((client, _)) = accepted else { time::sleep(Duration::from_millis(1)).await; continue };
                // Subscribed here: a cut that comes after the connection cuts it.
                let cut = control.cut.subscribe();
                connections.spawn(carry(client, cut, Open::new(Arc::clone(&control))));
            }
        }
    }
}

/// Counts a connection for as long as it is there.
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
    // Nobody is there: the client finds its connection closed, as with a server that died while it
    // was accepted.
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

/// Carries one direction until its sender has ended it.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut mode: watch::Receiver<Mode>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut lost = false;
    loop {
        // The control outlives the connection, which counts itself in it: there is always somebody
        // who may change it.
        let current = *mode.borrow_and_update();
        let len = tokio::select! {
            biased;
            _ = mode.changed() => continue,
            read = from.read(&mut piece), if current != Mode::Freeze => read?,
        };
        if lost || current == Mode::BlackHole {
            lost = true;
            if len == 0 {
                // That the sender has ended is not passed on either.
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
