//! The way of a function's items to its caller: one by one while the caller has credit for them, or
//! collected into one array for a caller that has not asked for a stream.

use std::{
    fmt,
    future::poll_fn,
    mem,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream::Iter;
use rmp::encode;

use crate::{
    codec::{EncodeError, Writer},
    error::Ran,
    outflow::Outflow,
    protocol::{
        MsgId,
        error::WireError,
        msgpack::NIL,
        response,
        stream::{Item, NotAdded},
    },
    util::item_turn::ItemTurn,
};

/// The way of the items of one call. Generated code passes the stream of a function through it.
pub struct Outlet {
    way: Way,
    turn: ItemTurn,
}

enum Way {
    OneByOne(Flow),
    /// The result is an array of all items.
    Collected {
        id: MsgId,
        items: Vec<u8>,
        count: u32,
        /// The most bytes that the array may have.
        limit: usize,
    },
    /// Nobody takes the items of a notification: the stream is dropped without being polled.
    Dropped,
}

struct Flow {
    id: MsgId,
    outflow: Arc<Outflow>,
    item: Item,
    /// True if the outflow takes one more item.
    may_follow: bool,
}

impl Outlet {
    /// Makes the way of items that are sent while there is credit.
    pub(crate) fn one_by_one(id: MsgId, outflow: Arc<Outflow>) -> Self {
        Self::new(Way::OneByOne(Flow { id, outflow, item: Item::default(), may_follow: false }))
    }

    /// Makes the way of items that become one array. `limit` is that of the message with it.
    pub(crate) fn collected(id: MsgId, limit: usize) -> Self {
        Self::new(Way::Collected { id, items: Vec::new(), count: 0, limit })
    }

    /// Makes the way of items that nobody waits for.
    pub(crate) fn dropped() -> Self {
        Self::new(Way::Dropped)
    }

    fn new(way: Way) -> Self {
        Self { way, turn: ItemTurn::default() }
    }

    /// Takes all items of a stream to the caller, each by `put`, and returns the response that ends
    /// them.
    ///
    /// # Errors
    /// Returns the first error of `put`. The items before it were sent.
    pub async fn pump<S: Stream>(
        mut self,
        stream: S,
        put: impl Fn(&mut Self, S::Item) -> Result<(), WireError>,
    ) -> Result<Bytes, WireError> {
        if matches!(self.way, Way::Dropped) {
            return Ok(Bytes::new());
        }
        let mut stream = pin!(stream);
        loop {
            poll_fn(|cx| self.poll_ready(cx)).await;
            let Some(item) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await else { break };
            put(&mut self, item)?;
        }
        Ok(self.response())
    }

    /// Takes an item, which `encode` writes.
    ///
    /// # Errors
    /// Returns `failed` if the item cannot be encoded, and `too_large` if it, or the array of all
    /// items, is longer than a message may be.
    pub fn item(
        &mut self,
        encode: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<(), WireError> {
        let unencodable = |error| WireError::unencodable("item", &error);
        match &mut self.way {
            Way::OneByOne(flow) => {
                let limit = flow.outflow.limit();
                flow.item.encode(limit, encode).map_err(|error| match error {
                    NotAdded::Unencodable(error) => unencodable(error),
                    NotAdded::TooLarge(size) => WireError::too_large("item", Ran::Yes, size, limit),
                })?;
                flow.may_follow = flow.outflow.push(&mut flow.item);
            }
            Way::Collected { items, count, limit, .. } => {
                let before = items.len();
                let mut writer = Writer::new(mem::take(items));
                encode(&mut writer).map_err(unencodable)?;
                *items = writer.into_buffer();
                // The longest head of an array has five bytes.
                let (size, limit) = (response::HEAD_LEN + 5 + items.len(), *limit);
                if size > limit {
                    let message = format!(
                        "the first {count} items have {before} bytes together, and with the next one \
                         the reply would be larger than the server's max_message_size of {limit}: ask \
                         for a stream"
                    );
                    let error = WireError::too_large("reply", Ran::Yes, size, limit);
                    return Err(WireError { message, ..error });
                }
                *count = count.saturating_add(1);
            }
            Way::Dropped => {}
        }
        Ok(())
    }

    /// Waits until an item may be sent.
    fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
        ready!(self.turn.poll_item(cx));
        let Way::OneByOne(flow) = &mut self.way else { return Poll::Ready(()) };
        if mem::take(&mut flow.may_follow) { Poll::Ready(()) } else { flow.outflow.poll_ready(cx) }
    }

    fn response(self) -> Bytes {
        match self.way {
            Way::OneByOne(flow) => response::response(flow.id, &[NIL]),
            Way::Collected { id, items, count, .. } => {
                let mut array = Vec::with_capacity(5 + items.len());
                encode::write_array_len(&mut array, count).expect("a Vec takes any bytes");
                array.extend_from_slice(&items);
                response::response(id, &array)
            }
            Way::Dropped => Bytes::new(),
        }
    }
}

/// Makes a stream of an iterator.
pub fn iterate<I: Iterate>(items: I) -> Iter<I> {
    futures_util::stream::iter(items)
}

/// The bound of what a function returns that is an iterator.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no iterator that may move between workers",
    note = "a caller that takes its time must hold no worker, so that the iterator is moved between \
            them: it must be `Send`, as in `impl Iterator<Item = T> + Send`"
)]
pub trait Iterate: Iterator + Send {}
// Makes the compiler show the message above, instead of the part that is not `Send`.
#[diagnostic::do_not_recommend]
impl<I: Iterator + Send> Iterate for I {}

/// Returns the stream, which may move between threads.
pub fn send_stream<S: SendStream>(items: S) -> S {
    items
}

/// The bound of what a function returns that is a stream.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no stream that may move between threads",
    note = "the runtime moves it between its threads: it must be `Send`, as in \
            `impl Stream<Item = T> + Send`"
)]
pub trait SendStream: Stream + Send {}
#[diagnostic::do_not_recommend]
impl<S: Stream + Send> SendStream for S {}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outlet")
    }
}
