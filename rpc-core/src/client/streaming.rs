//! Calls of functions that return many items, one by one.

use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_core::Stream;

use crate::{
    args::Args,
    client::{
        Client, blocking,
        calls::{CallKind, Next, Reply},
        raw_call::{CallStreams, RawCall},
        upload::Upload,
    },
    codec::DecodeError,
    error::{CallFailure, ErrorKind, Ran, RpcError},
    function::RemoteStream,
    protocol::{msgpack::NIL, response, stream::Chunk},
    util::{fnv, item_turn::ItemTurn},
};

impl Client {
    /// Returns the items of a call of the function `F` with `args`, for generic code. Other code
    /// uses the shorter `F::call(&client, ...)`.
    pub fn stream<F: RemoteStream>(&self, args: Args<F>) -> Streaming<F> {
        Streaming::new(self.clone(), args)
    }
}

/// The items of a call of the remote function `F`, made by `F::call(&client, ...)`.
///
/// It is a lazy [`Stream`]: nothing is sent until it is first polled. Items come as fast as they
/// are taken: the server may be ahead by the [window](Self::window), and then its function waits.
///
/// ```
/// use rpc_core::{Client, remote};
///
/// #[remote]
/// fn squares(below: u64) -> impl Iterator<Item = u64> + Send {
///     (0..below).map(|n| n * n)
/// }
///
/// # async fn example(client: &Client) -> Result<(), rpc_core::RpcError> {
/// let mut squares = squares::call(client, 1_000);
/// while let Some(square) = squares.next().await {
///     println!("{}", square?);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Timeouts
/// A stream may last for as long as it likes, but the server must send the next item within the
/// [idle timeout](Self::idle_timeout). While items wait for their caller, no time runs. A
/// [timeout](Self::timeout) limits the whole stream, and so does the deadline of the call in whose
/// function it was made.
///
/// # Errors
/// The last item is an error if the function, or the call, has failed: an [`RpcError`], or a
/// [`CallError<E>`](crate::CallError) if the function or its items can fail with an `E`. The items
/// before it are those that the function has returned, in order and without a gap.
///
/// A call is retried like any other before its first item, and not any more after that.
///
/// # Cancellation
/// Dropping the stream cancels the call: the server drops the iterator or the stream of the
/// function.
#[must_use = "nothing is called until the stream is polled, or `.wait()` is called"]
pub struct Streaming<F> {
    pub(super) raw: RawCall,
    /// The items that the caller takes next.
    chunk: Option<Chunk>,
    turn: ItemTurn,
    ended: bool,
    function: PhantomData<fn() -> F>,
}

impl<F: RemoteStream> Streaming<F> {
    fn new(client: Client, args: Args<F>) -> Self {
        let mut raw = RawCall::new::<F>(client, args, CallKind::Request);
        raw.streams = Some(Box::new(CallStreams { takes_stream: true, ..CallStreams::default() }));
        Self { raw, chunk: None, turn: ItemTurn::default(), ended: false, function: PhantomData }
    }

    /// Passes a stream as an argument.
    #[doc(hidden)]
    pub fn passing(mut self, upload: Upload) -> Self {
        self.streams().upload = Some(upload);
        self
    }

    fn streams(&mut self) -> &mut CallStreams {
        self.raw.streams.get_or_insert_default()
    }

    /// Sets the bytes of items that may be on their way or wait for the caller, at least 1. One
    /// item may exceed it. The default is
    /// [that of the client](crate::ClientBuilder::stream_window).
    pub fn window(mut self, bytes: u64) -> Self {
        self.streams().window = Some(bytes);
        self
    }

    /// Sets the longest time that the server may take for an item. The default is that of the
    /// client, which is 30 s unless set. `Duration::MAX` is no limit, for events that may be rare.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.streams().idle = Some(timeout);
        self
    }

    /// Limits the time of the whole stream. There is no such limit by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.raw.options.timeout = Some(timeout);
        self
    }

    /// Sets the maximum number of retries before the first item. See
    /// [`Call::retries`](crate::Call::retries).
    pub fn retries(mut self, retries: u32) -> Self {
        self.raw.options.retries = Some(retries);
        self
    }

    /// Sends the call to the server that `key` belongs to. See
    /// [`Call::affinity_key`](crate::Call::affinity_key).
    pub fn affinity_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.raw.options.extras().affinity = Some(fnv::hash(key.as_ref()));
        self
    }

    /// Lets the call end at once if there is no connection. See
    /// [`Call::fail_fast`](crate::Call::fail_fast).
    pub fn fail_fast(mut self) -> Self {
        self.raw.options.fail_fast = true;
        self
    }

    /// Returns the next item, or `None` after the last one.
    ///
    /// # Cancellation
    /// This is cancel-safe: dropping the returned future loses no item.
    pub async fn next(&mut self) -> Option<Result<F::Item, F::Error>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Returns an iterator that blocks the current thread for each item, for programs without an
    /// async runtime.
    pub fn wait(mut self) -> impl Iterator<Item = Result<F::Item, F::Error>> {
        let client = self.raw.client.clone();
        std::iter::from_fn(move || {
            if self.ended {
                return None;
            }
            // Those that are here need no wait.
            if self.chunk.is_some()
                && let Poll::Ready(item) = self.poll_item(&mut Context::from_waker(Waker::noop()))
            {
                return item;
            }
            let checked = blocking::check_thread().and_then(|()| client.core().check_process());
            if let Err(error) = checked {
                self.ended = true;
                return Some(Err(self.raw.complete(error).into()));
            }
            blocking::wait(client.core(), self.next())
        })
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<F::Item, F::Error>>> {
        ready!(self.turn.poll_item(cx));
        let item = loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if let Some(item) = self.chunk.as_mut().and_then(|chunk| chunk.read(F::decode_item)) {
                break match item {
                    Ok(item) => return Poll::Ready(Some(Ok(item))),
                    Err(cause) => Some(Err(self.undecodable(cause))),
                };
            }
            self.chunk = None;
            match ready!(self.raw.poll_items(cx)) {
                Next::Items(chunk) => self.chunk = Some(chunk),
                Next::End(Ok(reply)) => break self.end(&reply).map(Err),
                Next::End(Err(error)) => break Some(Err(error.into())),
            }
        };
        // An item that does not decode ends the stream as well.
        self.ended = true;
        self.raw.cancel();
        Poll::Ready(item)
    }

    #[cold]
    fn undecodable(&self, cause: DecodeError) -> F::Error {
        let output = F::SIGNATURE.output;
        let message = format!("an item of the {output} does not decode{}", cause.place());
        let error = RpcError::new(ErrorKind::Protocol, Ran::Yes, message);
        self.raw.complete(error.with_source(cause)).into()
    }

    /// Returns the error with which the stream ends, if it is one.
    fn end(&self, reply: &Reply) -> Option<F::Error> {
        let locate = |error: RpcError| self.raw.complete(error).at(&reply.endpoint.name);
        match response::parse_response(&reply.body) {
            Some(Ok(result)) if reply.body[result.clone()] == [NIL] => None,
            Some(Ok(_)) => {
                let message = "the function returns one value there, and no stream: its server has \
                               another version of it";
                Some(locate(RpcError::new(ErrorKind::Protocol, Ran::Yes, message)).into())
            }
            Some(Err(error)) => {
                let error = if reply.maybe_ran { error.or_earlier_try() } else { error };
                Some(F::Error::from_reply(locate(error)))
            }
            None => Some(locate(response::malformed()).into()),
        }
    }
}

impl<F: RemoteStream> Stream for Streaming<F> {
    type Item = Result<F::Item, F::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl<F: RemoteStream> fmt::Debug for Streaming<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = self.raw.stage();
        f.debug_struct("Streaming")
            .field("function", &F::SIGNATURE.name)
            .field("stage", &stage)
            .finish_non_exhaustive()
    }
}
