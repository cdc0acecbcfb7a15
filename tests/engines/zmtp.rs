//! A peer that is a bare TCP connection, and the bytes of ZMTP 3
//! (<https://rfc.zeromq.org/spec/23/>).

use std::io;

use tests::soon;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The flag of a frame that carries a command.
pub(crate) const COMMAND: u8 = 4;
/// The flag of a frame that is followed by more frames of its message.
pub(crate) const MORE: u8 = 1;
/// The flag of a frame whose length has eight bytes.
pub(crate) const LONG: u8 = 2;

/// The greeting of ZMTP 3.`minor` without security.
pub(crate) fn greeting(minor: u8) -> Vec<u8> {
    let mut greeting = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, minor];
    greeting.extend(b"NULL");
    greeting.resize(64, 0);
    greeting
}

/// The READY command of a DEALER.
pub(crate) fn ready() -> Vec<u8> {
    frame(COMMAND, b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER")
}

/// The command of [`ready`] with an identity.
pub(crate) fn ready_as(name: &str) -> Vec<u8> {
    let length = u32::try_from(name.len()).expect("it is a short name").to_be_bytes();
    let ready = &ready()[2..];
    frame(COMMAND, &[ready, b"\x08Identity", &length, name.as_bytes()].concat())
}

pub(crate) fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).expect("it is a short frame");
    [&[flags, length], body].concat()
}

/// A request in the envelope of a DEALER.
pub(crate) fn request(body: &[u8]) -> Vec<u8> {
    [frame(MORE, b""), frame(0, body)].concat()
}

/// The header of a frame of `length` bytes.
pub(crate) fn header(flags: u8, length: u64) -> Vec<u8> {
    [&[flags | LONG][..], &length.to_be_bytes()].concat()
}

/// The header of a frame of 10¹⁴ bytes.
pub(crate) fn huge(flags: u8) -> Vec<u8> {
    header(flags, 100_000_000_000_000)
}

/// A bare TCP connection to a server. Nothing makes it follow the protocol.
pub(crate) struct Stranger(TcpStream);

impl Stranger {
    pub(crate) async fn at(endpoint: &str) -> Self {
        let address = endpoint.strip_prefix("tcp://").expect("it is a tcp endpoint");
        Self(soon("connecting", TcpStream::connect(address)).await.expect("a server listens"))
    }

    /// Connects like [`at`](Self::at), and completes the handshake.
    pub(crate) async fn known_at(endpoint: &str) -> Self {
        Self::known_as(&ready(), endpoint).await
    }

    pub(crate) async fn known_as(ready: &[u8], endpoint: &str) -> Self {
        let mut stranger = Self::at(endpoint).await;
        stranger.send(&[&greeting(1), ready].concat()).await.expect("it is read");
        soon("the greeting", stranger.0.read_exact(&mut [0; 64])).await.expect("it comes");
        assert_eq!(stranger.recv().await[2..8], *b"\x05READY");
        stranger
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Reads the next frame. The result is the flags, the length in one byte, and the body, as in
    /// commands and short messages.
    pub(crate) async fn recv(&mut self) -> Vec<u8> {
        let mut frame = vec![0; 2];
        soon("a frame", self.0.read_exact(&mut frame)).await.expect("the connection lasts");
        assert_eq!(frame[0] & LONG, 0, "it is a short frame");
        frame.resize(2 + usize::from(frame[1]), 0);
        soon("a frame", self.0.read_exact(&mut frame[2..])).await.expect("the connection lasts");
        frame
    }

    /// Waits until the server ends the connection. The bytes that the server sends before do not
    /// matter.
    pub(crate) async fn until_disconnected(&mut self) {
        let ended = async { while self.0.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {} };
        soon("the server ends the connection", ended).await;
    }

    /// Returns true if the server has not closed the connection, as far as the received bytes show.
    pub(crate) fn is_connected(&self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.0.try_read(&mut buffer) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}
