//! The limits that the engine enforces on its peers, and how it watches them.

use std::time::Duration;

use omq_tokio::{KeepAlive, Options, ReconnectPolicy, Socket, SocketType};

use crate::{protocol::DEFAULT_MAX_MESSAGE_SIZE, util::io_thread::LINGER};

/// The time that a peer has for its handshake: a few round trips on the slowest network.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The number of accepted peers whose handshake may be in progress. The engine gives each host an
/// eighth of it, and peers on the same machine all of it. Further connections are closed, and their
/// clients try again. The limit bounds what untrusted peers can hold. It is larger than the fleet
/// of clients that connects to a restarted server at the same moment.
const MAX_HANDSHAKES: usize = 1_024;
/// The interval of the heartbeats to a peer that sends nothing. Only peers that speak ZMTP 3.1 get
/// heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The time that a peer has to answer a heartbeat. It is checked with every heartbeat, so that a
/// peer that has vanished is noticed within 25 s, before the default timeout of a call.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(15);
/// The TCP keepalive of the operating system, which also works for peers that do not speak ZMTP
/// 3.1. Linux applies [`UNREAD`] to its probes as well, so that it notices in a little more than a
/// minute that a peer has vanished.
const KEEPALIVE: KeepAlive =
    KeepAlive::Enabled { idle: Duration::from_secs(15), intvl: Duration::from_secs(5), cnt: 3 };
/// The time for which a peer may accept none of the bytes that were sent. Until then it may just be
/// slow. Heartbeats do not detect such a peer, because they wait behind those bytes.
const UNREAD: Duration = Duration::from_secs(60);
/// The number of messages that may wait in each of the engine's queues. For every connection the
/// engine keeps the memory for all of them, 64 bytes per message. When a queue is full, the sending
/// task of a client waits, the replies of a server wait elsewhere (see `REPLIES` in `omq.rs`), and no
/// further messages are received.
const MESSAGES: u32 = 1_024;
/// The number of events that may wait for the server's event loop, which takes them before anything
/// else. Each peer that connects and disconnects causes three. The engine keeps the memory for all
/// of them, some 300 bytes per event.
const EVENTS: usize = 4_096;
/// The number of events that may wait for a client, whose socket has only one peer, and only once.
const CLIENT_EVENTS: usize = 64;
/// The length by which a message may exceed its body, in bytes: for the identities of proxies, and
/// for what the engine counts for each frame.
const ENVELOPE: usize = 64 * 1024;
/// The pause before the engine reconnects. It reports a failed connection only if it is to
/// reconnect. So it is told to, but at a time when the socket is long gone.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Returns the options that servers and clients have in common.
fn common(max_message_size: usize) -> Options {
    // With a small limit, messages that are a little longer are still answered `too_large`. That is
    // better than losing the connection and everything else on it.
    let longest = max_message_size.max(DEFAULT_MAX_MESSAGE_SIZE).saturating_add(ENVELOPE);
    Options::new()
        .max_message_size(longest)
        .handshake_timeout(HANDSHAKE)
        .max_pending_handshakes(MAX_HANDSHAKES)
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_timeout(HEARTBEAT_TIMEOUT)
        .tcp_keepalive(KEEPALIVE)
        .tcp_user_timeout(UNREAD)
        .send_hwm(MESSAGES)
        .recv_hwm(MESSAGES)
        .linger(LINGER)
}

/// Returns the options of a server's socket.
pub(super) fn server_options(max_message_size: usize) -> Options {
    // With `router_mandatory`, a send reports that the peer has disconnected or its queue is full.
    common(max_message_size).router_mandatory(true).monitor_capacity(EVENTS)
}

/// Returns the options of a client's socket, which has `timeout` to connect.
pub(super) fn client_options(max_message_size: usize, timeout: Duration) -> Options {
    common(max_message_size)
        .monitor_capacity(CLIENT_EVENTS)
        .handshake_timeout(timeout * 7 / 8)
        .reconnect(ReconnectPolicy::Fixed(NEVER))
}

/// Opens a socket. Its tasks run on the tokio runtime in which this is called.
pub(super) fn socket(kind: SocketType, options: Options) -> Socket {
    Socket::try_new(kind, options).expect("the options are within the engine's limits")
}
