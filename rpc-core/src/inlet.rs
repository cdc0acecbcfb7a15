//! The stream that a function takes as an argument.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Instant,
    vec,
};

use futures_core::Stream;

use crate::{
    arrivals::Arrivals,
    codec::{DecodeError, Reader},
    error::{ErrorKind, Ran, RpcError},
    protocol::stream::Chunk,
    util::{item_turn::ItemTurn, park::park_until_ready, worker_waits::Waiting},
};

/// A stream that the caller passes as an argument.
///
/// It is a [`Stream`] for an async function. A sync function takes its items by
/// [`wait`](Self::wait).
///
/// ```
/// use rpc_core::{Client, Incoming, remote};
///
/// #[remote]
/// async fn sum(mut numbers: Incoming<u64>) -> Result<u64, String> {
///     let mut sum = 0;
///     while let Some(number) = numbers.next().await {
///         sum += number.map_err(|error| error.to_string())?;
///     }
///     Ok(sum)
/// }
///
/// # async fn example(client: &Client) -> Result<(), rpc_core::CallError<String>> {
/// let numbers = futures_util::stream::iter(1..=1_000);
/// assert_eq!(sum::call(client, numbers).await?, 500_500);
/// # Ok(())
/// # }
/// ```
///
/// # Flow control
/// The caller may be ahead by the [window](crate::ServerBuilder::stream_window) of the server. So a
/// function that takes its time holds the caller, and a bounded part of the memory. A function that
/// returns before the end, or drops this, lets the caller stop: the call has its result then.
///
/// # Errors
/// An item that does not decode is [`BadArguments`](ErrorKind::BadArguments). A caller that sends
/// nothing for the [idle timeout](crate::ServerBuilder::stream_idle_timeout), although it may, is
/// [`DeadlineExceeded`](ErrorKind::DeadlineExceeded). If the call ends before the function, a sync
/// function is told the reason, such as [`Cancelled`](ErrorKind::Cancelled); an async function is
/// dropped. There are no items after an error, and without an error all items have come.
///
/// # Callers that fail
/// A caller can only end its stream, or give up the call. If its own source may fail, and the
/// function is to know, the items are results: `Incoming<Result<T, E>>`. So does a function pass on
/// what it takes: `next::call(client, numbers.map(|number| number.map_err(|e| e.to_string())))`.
///
/// A caller in another language, or a call by name, may pass an array of all items instead. Through
/// a ZeroMQ proxy it has to.
///
/// # Tests
/// A function can be called directly, with items that are there already: `sum(vec![1, 2].into())`.
pub struct Incoming<T> {
    source: Source<T>,
}

enum Source<T> {
    /// All items were there when the function began.
    Together(vec::IntoIter<T>),
    OneByOne(Coming<T>),
}

struct Coming<T> {
    arrivals: Arc<Arrivals>,
    /// The items that the function takes next.
    chunk: Option<Chunk>,
    function: &'static str,
    /// The name of the parameter.
    name: &'static str,
    decode: Decode<T>,
    turn: ItemTurn,
    ended: bool,
}

/// Reads an item.
pub(crate) type Decode<T> = fn(&mut Reader<'_>) -> Result<T, DecodeError>;

impl<T> Incoming<T> {
    /// Makes the stream of a function that begins now.
    pub(crate) fn begin(
        arrivals: Arc<Arrivals>,
        function: &'static str,
        name: &'static str,
        decode: Decode<T>,
    ) -> Self {
        arrivals.begin(Instant::now());
        let (chunk, turn) = (None, ItemTurn::default());
        let coming = Coming { arrivals, chunk, function, name, decode, turn, ended: false };
        Self { source: Source::OneByOne(coming) }
    }

    /// Returns the next item, or `None` after the last one.
    ///
    /// # Cancellation
    /// This is cancel-safe: dropping the returned future loses no item.
    pub async fn next(&mut self) -> Option<Result<T, RpcError>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Returns an iterator that blocks the current thread for each item, for sync functions.
    ///
    /// A worker that waits for a caller runs nothing else meanwhile. The pool grows if all of them
    /// wait, up to [its limit](crate::ServerBuilder::workers): if callers may be slow or many, make
    /// the function async.
    pub fn wait(mut self) -> impl Iterator<Item = Result<T, RpcError>> {
        std::iter::from_fn(move || {
            let here = self.poll_item(&Context::from_waker(Waker::noop()));
            if let Poll::Ready(item) = here {
                return item;
            }
            let _waiting = Waiting::begin();
            park_until_ready(self.next(), || None)
        })
    }

    fn poll_item(&mut self, cx: &Context<'_>) -> Poll<Option<Result<T, RpcError>>> {
        let coming = match &mut self.source {
            Source::Together(items) => return Poll::Ready(items.next().map(Ok)),
            Source::OneByOne(coming) => coming,
        };
        ready!(coming.turn.poll_item(cx));
        loop {
            if coming.ended {
                return Poll::Ready(None);
            }
            let error =
                if let Some(item) =
                    coming.chunk.as_mut().and_then(|chunk| chunk.read(coming.decode))
                {
                    match item {
                        Ok(item) => return Poll::Ready(Some(Ok(item))),
                        Err(cause) => Some(undecodable(coming.name, cause)),
                    }
                } else {
                    coming.chunk = None;
                    match ready!(coming.arrivals.poll_chunk(cx)) {
                        Some(Ok(chunk)) => {
                            coming.chunk = Some(chunk);
                            continue;
                        }
                        Some(Err(error)) => {
                            let name = coming.name;
                            Some(error.and(format_args!(
                                "the stream of the parameter `{name}` has ended"
                            )))
                        }
                        None => None,
                    }
                };
            coming.ended = true;
            coming.arrivals.close();
            return Poll::Ready(error.map(|error| Err(error.of(coming.function.into()))));
        }
    }
}

#[cold]
fn undecodable(name: &str, cause: DecodeError) -> RpcError {
    let message = format!("an item of the parameter `{name}` does not decode{}", cause.place());
    RpcError::new(ErrorKind::BadArguments, Ran::Yes, message).with_source(cause)
}

// No item is pinned.
impl<T> Unpin for Incoming<T> {}

impl<T> Stream for Incoming<T> {
    type Item = Result<T, RpcError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_item(cx)
    }
}

impl<T> From<Vec<T>> for Incoming<T> {
    fn from(items: Vec<T>) -> Self {
        Self { source: Source::Together(items.into_iter()) }
    }
}

impl<T> Drop for Incoming<T> {
    fn drop(&mut self) {
        if let Source::OneByOne(coming) = &self.source {
            coming.arrivals.close();
        }
    }
}

impl<T> fmt::Debug for Incoming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}

/// The argument in the place of a stream.
#[derive(Debug)]
pub enum Passed<T> {
    /// Nil: the items come one by one.
    Stream,
    /// An array of all items.
    Items(Vec<T>),
}

impl<T> Passed<T> {
    /// Reads the argument. `decode` reads nil, or the array.
    ///
    /// # Errors
    /// Fails as `decode` does, or if the argument is missing.
    pub fn read<'de>(
        reader: &mut Reader<'de>,
        decode: impl Fn(&mut Reader<'de>) -> Result<Option<Vec<T>>, DecodeError>,
    ) -> Result<Self, DecodeError> {
        if reader.is_missing() {
            reader.value::<u8>()?;
        }
        Ok(decode(reader)?.map_or(Self::Stream, Self::Items))
    }
}

/// The bound of the type of a parameter that is called `Incoming`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is named `Incoming` but is not `rpc_core::Incoming`",
    label = "not a stream of this library",
    note = "a parameter of that name is a stream that the caller passes: name another type otherwise"
)]
pub trait IsIncoming<T> {}
impl<T> IsIncoming<T> for Incoming<T> {}

/// Asserts it, at the place of the parameter's type.
pub fn assert_incoming<I: IsIncoming<T>, T>() {}
