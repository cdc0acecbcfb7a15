//! The reasons why two sides do not agree about encryption, which neither engine reports by itself.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time,
};

use crate::transport::{Address, Mismatch, TransportConfig, TransportError, explain};

/// The time that a peer has for its greeting: a few round trips.
const GREETING: Duration = Duration::from_millis(500);
/// The beginning of a greeting: the signature, and the version 3.
/// <https://rfc.zeromq.org/spec/23/>
const SIGNATURE: &[u8] = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03";
/// The place of the mechanism in a greeting.
const MECHANISM: std::ops::Range<usize> = 12..32;

/// The failure of a handshake in which the server has refused the key of the client.
#[cfg(feature = "omq")]
#[derive(Debug, thiserror::Error)]
#[error("the server has refused the handshake")]
pub(super) struct Refused;

/// Explains why a peer that takes connections at `address` did not complete the handshake.
pub(super) async fn explain(
    address: &Address,
    config: &TransportConfig,
    cause: TransportError,
) -> TransportError {
    let Ok(Some(theirs)) = time::timeout(GREETING, mechanism(address)).await else { return cause };
    match (own_key(config), theirs.as_str()) {
        (None, "CURVE") => Mismatch(
            "the server takes encrypted connections only: give the client keys with `.curve(...)` \
             (feature `curve`)"
                .to_owned(),
        )
        .into(),
        (Some(_), "NULL") => Mismatch(
            "the server does not encrypt, and so the client, which has `.curve(...)`, does not \
             talk to it: somebody else may listen there, or the server lacks `.curve(...)`"
                .to_owned(),
        )
        .into(),
        #[cfg(feature = "omq")]
        (Some(own), "CURVE") if cause.is::<Refused>() => Mismatch(format!(
            "the server does not admit the key of this client, {own}: its access list must have it"
        ))
        .into(),
        (Some(_), "CURVE") => Mismatch(
            "the server has another key than the client was given: somebody else may listen there, \
             or its key has changed"
                .to_owned(),
        )
        .into(),
        _ => cause,
    }
}

/// Returns the public key of a client that encrypts, as text.
#[cfg(feature = "curve")]
fn own_key(config: &TransportConfig) -> Option<String> {
    match &config.curve {
        Some(crate::transport::Curve::Client { secret, .. }) => Some(secret.public().to_string()),
        _ => None,
    }
}

#[cfg(not(feature = "curve"))]
fn own_key(_: &TransportConfig) -> Option<String> {
    None
}

/// Asks a peer for the name of its mechanism. Every peer states it in its greeting, before it knows
/// that of the other side. `None` if it does not speak ZMTP 3.
async fn mechanism(address: &Address) -> Option<String> {
    match explain::open(address).await.ok()? {
        explain::Stream::Tcp(stream) => read_mechanism::<TcpStream>(stream).await,
        explain::Stream::Ipc(stream) => read_mechanism::<UnixStream>(stream).await,
    }
}

async fn read_mechanism<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> Option<String> {
    stream.write_all(SIGNATURE).await.ok()?;
    let mut greeting = [0; MECHANISM.end];
    stream.read_exact(&mut greeting).await.ok()?;
    let name = greeting[MECHANISM].split(|byte| *byte == 0).next()?;
    let is_zmtp = greeting[0] == 0xff && greeting[10] >= 3;
    String::from_utf8(name.to_vec()).ok().filter(|_| is_zmtp)
}
