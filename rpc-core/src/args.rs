//! The encoded arguments of one call: made once, in the caller's task, and owned.

use std::{borrow::Cow, fmt, marker::PhantomData};

use bytes::Bytes;
use serde::Serialize;

use crate::{
    codec::{EncodeError, Writer},
    function::RemoteFn,
    message::{self, Head},
};

/// The arguments of one call of `F`, already encoded. Made by `F`'s `args` function, and taken by
/// [`Client::call`](crate::Client::call); `F::call(&client, ...)` does both.
pub struct Args<F> {
    encoded: EncodedArgs,
    function: PhantomData<fn() -> F>,
}

impl<F: RemoteFn> Args<F> {
    /// Encodes `count` arguments with `encode`. For generated code.
    #[doc(hidden)]
    pub fn encode(count: u32, encode: impl FnOnce(&mut Writer) -> Result<(), EncodeError>) -> Self {
        let method = Cow::Borrowed(F::SIGNATURE.name);
        let encoded = EncodedArgs::encode(method, |writer| {
            writer.array(count);
            encode(writer)
        });
        Self { encoded, function: PhantomData }
    }

    /// The arguments of a function that is known by name only.
    pub(crate) fn dynamic(method: &str, params: &impl Serialize) -> Self {
        Self { encoded: EncodedArgs::dynamic(method.to_owned(), params), function: PhantomData }
    }

    pub(crate) fn into_encoded(self) -> EncodedArgs {
        self.encoded
    }
}

impl<F> Clone for Args<F> {
    fn clone(&self) -> Self {
        Self { encoded: self.encoded.clone(), function: PhantomData }
    }
}

impl<F: RemoteFn> fmt::Debug for Args<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Args").field("function", &F::SIGNATURE.name).finish_non_exhaustive()
    }
}

/// Params with room in front of them for the message's head, so that the whole message is one
/// allocation.
#[derive(Clone, Debug)]
pub(crate) struct EncodedArgs {
    pub(crate) method: Cow<'static, str>,
    buffer: Result<Vec<u8>, EncodeError>,
    params_at: usize,
}

impl EncodedArgs {
    fn encode(
        method: Cow<'static, str>,
        encode: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Self {
        let params_at = message::max_head_len(&method);
        // Most arguments fit, and what does not is moved once.
        let mut buffer = Vec::with_capacity(params_at + 128);
        buffer.resize(params_at, 0);
        let mut writer = Writer::new(buffer);
        let buffer = encode(&mut writer).map(|()| writer.into_buffer());
        Self { method, buffer, params_at }
    }

    /// Encodes `params`, which must become an array or a map; `()` stands for no arguments.
    pub(crate) fn dynamic<P: Serialize + ?Sized>(method: String, params: &P) -> Self {
        let mut args = Self::encode(Cow::Owned(method), |writer| writer.value(params));
        let Ok(buffer) = &mut args.buffer else { return args };
        match buffer[args.params_at..].first().copied() {
            Some(message::NIL) => buffer[args.params_at] = message::EMPTY_ARRAY,
            Some(marker) if message::is_params_marker(marker) => {}
            _ => {
                args.buffer = Err(EncodeError::new(
                    "params must be a tuple, sequence, struct or map; one argument is the tuple `(argument,)`",
                ));
            }
        }
        args
    }

    /// The message, which may be sent more than once.
    ///
    /// # Errors
    /// When the arguments could not be encoded.
    pub(crate) fn finish(self) -> Result<Message, EncodeError> {
        let Self { method, buffer, params_at } = self;
        Ok(Message { method, buffer: Buffer::Fresh(buffer?), params_at })
    }

    /// The message with its head, for one that is sent once and whose arguments can be encoded.
    pub(crate) fn into_message(self, head: Head<'_>) -> Bytes {
        self.finish().expect("these arguments can be encoded").with_head(head)
    }
}

/// A message whose head is written when it is sent: each time a new one, in front of the same
/// params.
#[derive(Debug)]
pub(crate) struct Message {
    method: Cow<'static, str>,
    /// Room for the head, and the params.
    buffer: Buffer,
    params_at: usize,
}

#[derive(Debug)]
enum Buffer {
    Fresh(Vec<u8>),
    /// It was sent before; the transport may still have it.
    Sent(Bytes),
}

impl Message {
    /// The longest that it gets without an idempotency key, in bytes.
    pub(crate) fn len(&self) -> usize {
        match &self.buffer {
            Buffer::Fresh(buffer) => buffer.len(),
            Buffer::Sent(buffer) => buffer.len(),
        }
    }

    /// Writes the head. Nothing is copied the first time, unless the head has a key, for which
    /// there is no room.
    pub(crate) fn with_head(&mut self, head: Head<'_>) -> Bytes {
        let head_len = message::head_len(&self.method, head);
        let room = head_len.max(self.params_at);
        let mut buffer = match std::mem::replace(&mut self.buffer, Buffer::Fresh(Vec::new())) {
            Buffer::Fresh(buffer) if room == self.params_at => buffer,
            Buffer::Fresh(buffer) => moved(&buffer[self.params_at..], room),
            Buffer::Sent(buffer) => moved(&buffer[self.params_at..], room),
        };
        self.params_at = room;
        message::write_head(&mut buffer[room - head_len..room], &self.method, head);
        let buffer = Bytes::from(buffer);
        let message = buffer.slice(room - head_len..);
        self.buffer = Buffer::Sent(buffer);
        message
    }

    /// How long it is with this head, in bytes.
    pub(crate) fn len_with(&self, head: Head<'_>) -> usize {
        message::head_len(&self.method, head) + self.len() - self.params_at
    }

    /// Appends it with this head to `out`.
    pub(crate) fn append_to(&self, head: Head<'_>, out: &mut Vec<u8>) {
        let head_at = out.len();
        out.resize(head_at + message::head_len(&self.method, head), 0);
        message::write_head(&mut out[head_at..], &self.method, head);
        let buffer: &[u8] = match &self.buffer {
            Buffer::Fresh(buffer) => buffer,
            Buffer::Sent(buffer) => buffer,
        };
        out.extend_from_slice(&buffer[self.params_at..]);
    }

    /// Gives the memory back of a message that will not be sent again.
    pub(crate) fn clear(&mut self) {
        self.buffer = Buffer::Fresh(Vec::new());
    }
}

/// A buffer of its own for `params`, behind `room` bytes.
fn moved(params: &[u8], room: usize) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(room + params.len());
    buffer.resize(room, 0);
    buffer.extend_from_slice(params);
    buffer
}
