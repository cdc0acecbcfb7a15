//! The encoded arguments of one call: made once, in the caller's task, and owned.

use std::{borrow::Cow, fmt, marker::PhantomData};

use bytes::{Buf, Bytes};
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

/// Params with room in front of them for the message's head, so that the whole message is one allocation.
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
        let mut buffer = Vec::with_capacity(params_at + 64);
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

    /// Why there is nothing to send, if that is so.
    pub(crate) fn error(&self) -> Option<&EncodeError> {
        self.buffer.as_ref().err()
    }

    /// The longest that the message can get, in bytes.
    pub(crate) fn message_len(&self) -> usize {
        self.buffer.as_ref().map_or(0, Vec::len)
    }

    /// The whole message. Empty if encoding failed, which [`error`](Self::error) tells beforehand.
    pub(crate) fn into_message(self, head: Head) -> Bytes {
        let Ok(mut buffer) = self.buffer else {
            return Bytes::new();
        };
        let head_at = self.params_at - message::head_len(&self.method, head);
        message::write_head(&mut buffer[head_at..self.params_at], &self.method, head);
        let mut message = Bytes::from(buffer);
        message.advance(head_at);
        message
    }
}
