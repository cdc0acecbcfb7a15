//! The reserved names of the protocol and their payloads, for both sides.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, EncodeError},
    function::Signature,
    protocol::{MsgId, PROTOCOL_VERSION, outgoing::EncodedArgs, request::Head},
};

/// The request that introduces a client to a server.
pub(crate) const HELLO: &str = "rpc.hello";
/// The request that asks if the server is alive.
pub(crate) const PING: &str = "rpc.ping";
/// The request for a description of the service.
pub(crate) const DISCOVER: &str = "rpc.discover";
/// The notification with which a client cancels a call.
pub(crate) const CANCEL: &str = "rpc.cancel";
/// The notification with which a server tells a client that it drains: new calls belong elsewhere.
pub(crate) const GO_AWAY: &str = "rpc.goodbye";
/// The notification about the window of a client: the server states it, and the client asks for
/// another.
pub(crate) const WINDOW: &str = "rpc.window";

/// The notification with an item of a stream.
pub(crate) const ITEM: &str = "rpc.item";
/// The notification with which a receiver lets more items of a stream come.
pub(crate) const CREDIT: &str = "rpc.credit";

/// Returns true for a name that only the protocol may define.
pub(crate) fn is_reserved(method: &str) -> bool {
    method.starts_with("rpc.")
}

/// The set of protocol features that a peer understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Capabilities(u8);

impl Capabilities {
    /// The options of requests: timeouts and idempotency keys.
    pub(crate) const OPTIONS: Self = Self(1);
    pub(crate) const CANCEL: Self = Self(1 << 1);
    pub(crate) const PING: Self = Self(1 << 2);
    /// The notification of a server that drains.
    pub(crate) const GO_AWAY: Self = Self(1 << 3);
    /// Several small messages in one body.
    pub(crate) const BATCHES: Self = Self(1 << 4);
    /// Windows, which limit the calls that a client has in flight.
    pub(crate) const WINDOWS: Self = Self(1 << 5);
    /// Messages are stored on their way, which the carrier confirms. It is the carrier that has
    /// this, and not the peer.
    pub(crate) const STORED: Self = Self(1 << 6);

    /// Streams: functions that return many items, one by one.
    pub(crate) const STREAMS: Self = Self(1 << 7);

    /// The features that every version of this protocol has. A plain MessagePack-RPC peer has none.
    pub(crate) const BASE: Self =
        Self(Self::OPTIONS.0 | Self::CANCEL.0 | Self::PING.0 | Self::GO_AWAY.0);

    pub(crate) const fn contains(self, feature: Self) -> bool {
        self.0 & feature.0 == feature.0
    }

    /// Adds `feature` if `has_it` is true.
    pub(crate) const fn with(self, feature: Self, has_it: bool) -> Self {
        if has_it { Self(self.0 | feature.0) } else { self }
    }
}

/// The name of [`Capabilities::WINDOWS`] in a hello.
const WINDOWS: &str = "windows";
/// The name of [`Capabilities::STREAMS`] in a hello.
const STREAMS: &str = "streams";

/// The calls, and their bytes, that a client may have in flight at a server, or would like to have.
///
/// The server numbers the windows of a client. A client states the number of the window that it
/// keeps to. So the server knows when the client has taken note of a smaller window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) number: u32,
    pub(crate) calls: usize,
    /// The bytes of the requests.
    pub(crate) bytes: usize,
}

/// The facts that a client has learned about the peer of a link.
#[derive(Debug, Clone)]
pub(crate) struct PeerInfo {
    pub(crate) capabilities: Capabilities,
    /// The longest message that both sides accept, in bytes.
    pub(crate) max_message_size: usize,
    /// The largest number of calls in a batch. It is 1 if the peer takes no batches.
    pub(crate) max_batch: usize,
    /// The random name of the server process. `None` if the server has not stated one.
    pub(crate) instance: Option<Arc<str>>,
    /// The first window of this client. `None` if the server states no windows.
    pub(crate) window: Option<Window>,
}

#[derive(Serialize)]
struct ClientHello<'a> {
    protocol: u32,
    max_message_size: usize,
    batches: bool,
    capabilities: &'a [&'a str],
}

#[derive(Serialize)]
struct ServerHello<'a> {
    protocol: u32,
    instance: &'a str,
    max_message_size: usize,
    batches: bool,
    capabilities: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<Window>,
}

/// The part of a client's hello that this version uses.
#[derive(Default, Deserialize)]
struct ReceivedClientHello {
    #[serde(default)]
    batches: bool,
    #[serde(default)]
    capabilities: Vec<String>,
}

/// The part of a server's hello that this version uses.
#[derive(Deserialize)]
struct ReceivedServerHello {
    max_message_size: usize,
    #[serde(default)]
    batches: bool,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    instance: Option<String>,
    #[serde(default)]
    window: Option<Window>,
}

/// Encodes the request that introduces a client. `max_message_size` is the client's limit, in
/// bytes. `windows` is true if the client keeps to windows.
pub(crate) fn client_hello(id: MsgId, max_message_size: usize, windows: bool) -> Bytes {
    let capabilities: &[&str] = if windows { &[WINDOWS] } else { &[] };
    let protocol = PROTOCOL_VERSION;
    let hello = ClientHello { protocol, max_message_size, batches: true, capabilities };
    let head = Head::request(id);
    EncodedArgs::dynamic(HELLO, &(hello,)).into_message(head)
}

/// Reads the params of a client's hello, and returns the features that the client understands.
pub(crate) fn read_client_hello(params: &[u8]) -> Capabilities {
    let hello = codec::from_slice::<(ReceivedClientHello,)>(params);
    let (ReceivedClientHello { batches, capabilities },) = hello.unwrap_or_default();
    let windows = capabilities.iter().any(|name| name == WINDOWS);
    Capabilities::BASE.with(Capabilities::BATCHES, batches).with(Capabilities::WINDOWS, windows)
}

/// Encodes a server's answer to a hello, with the client's first window if it keeps to windows.
pub(crate) fn server_hello(
    instance: &str,
    max_message_size: usize,
    window: Option<Window>,
) -> Result<Vec<u8>, EncodeError> {
    codec::to_vec(&ServerHello {
        protocol: PROTOCOL_VERSION,
        instance,
        max_message_size,
        batches: true,
        capabilities: &[WINDOWS, STREAMS],
        window,
    })
}

/// Reads the answer to a hello. `max_message_size` is the client's limit, in bytes. A peer that
/// answers with an error (`result` is `None`), or with anything other than a hello, is taken for a
/// plain MessagePack-RPC server.
pub(crate) fn read_server_hello(result: Option<&[u8]>, max_message_size: usize) -> PeerInfo {
    match result.map(codec::from_slice::<ReceivedServerHello>) {
        Some(Ok(hello)) => PeerInfo {
            capabilities: Capabilities::BASE
                .with(Capabilities::STREAMS, hello.capabilities.iter().any(|it| it == STREAMS)),
            max_message_size: hello.max_message_size.min(max_message_size),
            max_batch: if hello.batches { usize::MAX } else { 1 },
            instance: hello.instance.map(Arc::from),
            window: hello.window,
        },
        _ => PeerInfo {
            capabilities: Capabilities::default(),
            max_message_size,
            max_batch: 1,
            instance: None,
            window: None,
        },
    }
}

pub(crate) fn ping() -> EncodedArgs {
    EncodedArgs::dynamic(PING, &())
}

pub(crate) fn discover() -> EncodedArgs {
    EncodedArgs::dynamic(DISCOVER, &())
}

pub(crate) fn cancel(id: MsgId) -> EncodedArgs {
    EncodedArgs::dynamic(CANCEL, &(id.0,))
}

/// Reads the params of a cancel. Returns `None` if they are malformed: a notification is not
/// answered.
pub(crate) fn read_cancel(params: &[u8]) -> Option<MsgId> {
    codec::from_slice::<(u32,)>(params).ok().map(|(id,)| MsgId(id))
}

/// Encodes the go-away, which sends new calls elsewhere.
pub(crate) fn go_away() -> Bytes {
    EncodedArgs::dynamic(GO_AWAY, &()).into_message(Head::NOTIFICATION)
}

/// Encodes the window that a client asks for.
pub(crate) fn window(window: Window) -> EncodedArgs {
    EncodedArgs::dynamic(WINDOW, &(window,))
}

/// Encodes the names of a function's parameters, which a caller states so that the server can
/// compare them with its own.
pub(crate) fn param_names(signature: &Signature) -> Vec<u8> {
    let names = signature.params.iter().map(|param| param.name);
    codec::to_vec(&names.collect::<Vec<_>>()).expect("texts can be encoded")
}

/// Reads the names of parameters. Returns `None` if they are malformed.
pub(crate) fn read_param_names(names: &[u8]) -> Option<Vec<String>> {
    codec::from_slice(names).ok()
}

/// Reads the params of a window. Returns `None` if they are malformed.
pub(crate) fn read_window(params: &[u8]) -> Option<Window> {
    codec::from_slice::<(Window,)>(params).ok().map(|(window,)| window)
}
