//! Encoded arguments, and the requests and notifications that are made of them.
//!
//! The arguments of a call are encoded once, in the caller's task. The buffer has space for the
//! head in front of them, so that the whole message is one allocation.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;

use crate::{
    codec::{EncodeError, Writer},
    protocol::{
        msgpack,
        request::{self, Head},
    },
};

/// The space for an option besides the timeout, in bytes, so that it needs no second buffer. A
/// random idempotency key of 16 bytes takes 22, and a W3C `traceparent` as text will take 63.
const OPTIONS_SPACE: usize = 64;
/// The space that is reserved for arguments, in bytes. Most arguments fit, and longer ones cause a
/// reallocation.
const PARAMS_SPACE: usize = 128;

/// Encoded params, behind space for the head of their message.
#[derive(Clone, Debug)]
pub(crate) struct EncodedArgs {
    pub(crate) method: Cow<'static, str>,
    buffer: Result<Vec<u8>, EncodeError>,
    params_at: usize,
}

impl EncodedArgs {
    pub(crate) fn encode(
        method: Cow<'static, str>,
        encode: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Self {
        let params_at = request::max_head_len(&method) + OPTIONS_SPACE;
        let mut buffer = Vec::with_capacity(params_at + PARAMS_SPACE);
        buffer.resize(params_at, 0);
        let mut writer = Writer::new(buffer);
        let buffer = encode(&mut writer).map(|()| writer.into_buffer());
        Self { method, buffer, params_at }
    }

    /// Encodes `params`, which must become an array or a map. `()` stands for no arguments. A
    /// failure is reported by [`finish`](Self::finish).
    pub(crate) fn dynamic<P: Serialize + ?Sized>(
        method: impl Into<Cow<'static, str>>,
        params: &P,
    ) -> Self {
        let mut args = Self::encode(method.into(), |writer| writer.params(params));
        let Ok(buffer) = &mut args.buffer else { return args };
        match buffer[args.params_at..].first().copied() {
            Some(msgpack::NIL) => buffer[args.params_at] = msgpack::EMPTY_ARRAY,
            Some(marker) if msgpack::is_params_marker(marker) => {}
            _ => {
                args.buffer = Err(EncodeError::new(
                    "params must be a tuple, sequence, struct or map; one argument is the tuple \
                     `(argument,)`",
                ));
            }
        }
        args
    }

    /// Makes the message, which may be sent more than once.
    ///
    /// # Errors
    /// Fails if the arguments could not be encoded.
    pub(crate) fn finish(self) -> Result<OutgoingMessage, EncodeError> {
        let Self { method, buffer, params_at } = self;
        Ok(OutgoingMessage { method, buffer: Buffer::Fresh(buffer?), params_at })
    }

    /// Makes a message that is sent once.
    ///
    /// # Panics
    /// If the arguments could not be encoded. The function is for arguments that always can be.
    pub(crate) fn into_message(self, head: Head<'_>) -> Bytes {
        self.finish().expect("these arguments can be encoded").with_head(head)
    }
}

/// A request or notification that gets its head when it is sent: each try has a new head, in front
/// of the same params.
#[derive(Debug)]
pub(crate) struct OutgoingMessage {
    method: Cow<'static, str>,
    /// Space for the head, and the params behind it.
    buffer: Buffer,
    params_at: usize,
}

#[derive(Debug)]
enum Buffer {
    Fresh(Vec<u8>),
    /// The buffer was sent before. The transport may still hold it, so that it must not be changed.
    Sent(Bytes),
}

impl OutgoingMessage {
    /// Returns the longest length that the message has without an idempotency key, in bytes.
    pub(crate) fn len(&self) -> usize {
        request::max_head_len(&self.method) + self.params().len()
    }

    fn params(&self) -> &[u8] {
        let buffer: &[u8] = match &self.buffer {
            Buffer::Fresh(buffer) => buffer,
            Buffer::Sent(buffer) => buffer,
        };
        // A message that was cleared has no params.
        buffer.get(self.params_at..).unwrap_or_default()
    }

    /// Writes the head, and returns the message. The params are copied only if they were sent
    /// before, or if the head is longer than the space for it.
    pub(crate) fn with_head(&mut self, head: Head<'_>) -> Bytes {
        let head_len = request::head_len(&self.method, head);
        let space = head_len.max(self.params_at);
        let mut buffer = match std::mem::replace(&mut self.buffer, Buffer::Fresh(Vec::new())) {
            Buffer::Fresh(buffer) if space == self.params_at => buffer,
            Buffer::Fresh(buffer) => with_space(&buffer[self.params_at..], space),
            Buffer::Sent(buffer) => with_space(&buffer[self.params_at..], space),
        };
        self.params_at = space;
        request::write_head(&mut buffer[space - head_len..space], &self.method, head);
        let buffer = Bytes::from(buffer);
        let message = buffer.slice(space - head_len..);
        self.buffer = Buffer::Sent(buffer);
        message
    }

    /// Returns the length of the message with this head, in bytes.
    pub(crate) fn len_with(&self, head: Head<'_>) -> usize {
        request::head_len(&self.method, head) + self.params().len()
    }

    /// Appends the message with this head to `out`.
    pub(crate) fn append_to(&self, head: Head<'_>, out: &mut Vec<u8>) {
        let head_at = out.len();
        out.resize(head_at + request::head_len(&self.method, head), 0);
        request::write_head(&mut out[head_at..], &self.method, head);
        out.extend_from_slice(self.params());
    }

    /// Frees the memory of a message that will not be sent again.
    pub(crate) fn clear(&mut self) {
        self.buffer = Buffer::Fresh(Vec::new());
    }
}

/// Copies `params` into a new buffer, behind `space` bytes for the head.
fn with_space(params: &[u8], space: usize) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(space + params.len());
    buffer.resize(space, 0);
    buffer.extend_from_slice(params);
    buffer
}
