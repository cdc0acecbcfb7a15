//! The stream that a call passes as an argument, on the side of its caller.

use std::{
    fmt,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_core::Stream;

use crate::{
    client::{
        calls::streams::{Passing, Room},
        core::ClientCore,
    },
    codec::{EncodeError, Writer},
    error::{ErrorKind, Ran, RpcError},
    protocol::{
        MsgId,
        stream::{Item, Items, MESSAGE_BYTES, NotAdded, end_of_items},
    },
};

/// The bytes of items after which the caller's task lets others run.
const BYTES_IN_TURN: usize = 256 * 1024;

/// A stream that a call passes as an argument. It is polled in the task of the caller, as a part of
/// the call.
pub struct Upload {
    /// The lock, which nobody waits for, makes this `Sync`.
    source: Mutex<Box<dyn Source>>,
    item: Item,
}

/// A stream of items of any type.
trait Source: Send {
    /// Polls for the next item. `Ready(false)` is the end of the stream.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<bool>;
    /// Writes the item that was polled.
    fn write(&mut self, writer: &mut Writer) -> Result<(), EncodeError>;
}

struct Typed<S: Stream, E> {
    stream: Pin<Box<S>>,
    item: Option<S::Item>,
    encode: E,
}

impl<S, E> Source for Typed<S, E>
where
    S: Stream<Item: Send> + Send,
    E: Fn(&S::Item, &mut Writer) -> Result<(), EncodeError> + Send,
{
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.stream.as_mut().poll_next(cx).map(|item| {
            self.item = item;
            self.item.is_some()
        })
    }

    fn write(&mut self, writer: &mut Writer) -> Result<(), EncodeError> {
        self.item.take().map_or(Ok(()), |item| (self.encode)(&item, writer))
    }
}

impl Upload {
    /// Makes the upload of a stream, whose items `encode` writes.
    pub fn new<T: Send + 'static>(
        stream: impl Stream<Item = T> + Send + 'static,
        encode: impl Fn(&T, &mut Writer) -> Result<(), EncodeError> + Send + 'static,
    ) -> Self {
        let source = Typed { stream: Box::pin(stream), item: None, encode };
        Self { source: Mutex::new(Box::new(source)), item: Item::default() }
    }

    /// Passes items to the server of a call, as far as that takes them. Returns false after the
    /// last one.
    ///
    /// # Errors
    /// Returns an error if an item cannot be encoded, or is too large.
    pub(super) fn pass(
        &mut self,
        core: &ClientCore,
        id: MsgId,
        cx: &mut Context<'_>,
    ) -> Result<bool, RpcError> {
        let Self { source, item } = self;
        let source = source.get_mut().unwrap_or_else(PoisonError::into_inner);
        let pass = |body, items| core.pass(id, Passing { body, items });
        let mut left = BYTES_IN_TURN;
        while let Some(Room { bytes, is_idle, limit }) = core.room(id) {
            if left == 0 {
                cx.waker().wake_by_ref();
                break;
            }
            // An item that can be sent at once does not wait for the next one, which may take long.
            let bytes = if is_idle { 1 } else { bytes.min(MESSAGE_BYTES) };
            let mut items = Items::new(id);
            let mut next = Poll::Ready(true);
            while next == Poll::Ready(true) && items.len() < bytes {
                next = source.poll_next(cx);
                if next == Poll::Ready(true) {
                    let encoded = item.encode(limit, |writer| source.write(writer));
                    encoded.map_err(|error| not_added(error, limit))?;
                    let before = items.count();
                    if let Some(full) = items.push(item, limit) {
                        left = left.saturating_sub(full.len());
                        pass(full, Some(before));
                        // The item behind it goes too, and then there may be no more room.
                        break;
                    }
                }
            }
            let count = items.count();
            if let Some(body) = items.take() {
                left = left.saturating_sub(body.len());
                pass(body, Some(count));
            }
            match next {
                Poll::Ready(true) => {}
                Poll::Ready(false) => {
                    pass(end_of_items(id), None);
                    return Ok(false);
                }
                Poll::Pending => break,
            }
        }
        Ok(true)
    }
}

fn not_added(error: NotAdded, limit: usize) -> RpcError {
    match error {
        NotAdded::Unencodable(cause) => {
            let message = "an item of the argument cannot be encoded";
            RpcError::new(ErrorKind::BadArguments, Ran::Yes, message).with_source(cause)
        }
        NotAdded::TooLarge(size) => {
            let message = format!(
                "an item of the argument has {size} bytes, and the server's max_message_size is \
                 {limit}"
            );
            RpcError::new(ErrorKind::TooLarge { size, limit }, Ran::Yes, message)
        }
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upload")
    }
}
