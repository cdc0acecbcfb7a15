//! Calls of one remote function for many inputs, with a bounded number in flight.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};

use crate::{
    args::Args,
    client::{Client, blocking, call::Call, raw_call::CallOptions},
    function::RemoteFn,
};

/// The default of [`Map::concurrency`]: enough to keep a few servers busy over a network, and few
/// enough not to fill their queues.
const CONCURRENCY: usize = 64;

/// A stream that calls the remote function `F` for each input, made by `F::map(&client, inputs)`.
///
/// The stream yields `(index of the input, result)` whenever a call ends. With
/// [`ordered`](Self::ordered), it yields the results in the order of the inputs. The stream takes
/// inputs one by one, as calls can begin. A call that fails does not end the stream.
///
/// ```
/// use rpc_core::{Client, remote};
///
/// #[remote(idempotent)]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// # async fn example(client: &Client) -> Result<(), rpc_core::RpcError> {
/// let mut sum = 0;
/// let mut squares = square::map(client, 1..=1_000).concurrency(32);
/// while let Some((_index, squared)) = squares.next().await {
///     sum += squared?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Cancellation
/// Dropping the stream cancels the calls that are in flight.
#[must_use = "nothing is called until the stream is polled, or `.wait()` is called"]
pub struct Map<F: RemoteFn, I: Iterator> {
    client: Client,
    inputs: I,
    encode: fn(I::Item) -> Args<F>,
    next_index: usize,
    exhausted: bool,
    concurrency: usize,
    pub(super) options: CallOptions,
    running: Running<F>,
}

enum Running<F: RemoteFn> {
    Unordered(FuturesUnordered<Indexed<F>>),
    /// Results that wait for an earlier one count as in flight, so that they are bounded as well.
    Ordered(FuturesOrdered<Indexed<F>>),
}

/// The item that a [`Map`] yields for one input: its index, and the result of its call.
pub type MapItem<F> = (usize, Result<<F as RemoteFn>::Output, <F as RemoteFn>::Error>);

struct Indexed<F> {
    index: usize,
    call: Call<F>,
}

impl<F: RemoteFn> Future for Indexed<F> {
    type Output = MapItem<F>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let index = self.index;
        Pin::new(&mut self.call).poll(cx).map(|result| (index, result))
    }
}

impl<F: RemoteFn, I: Iterator> Map<F, I> {
    /// Returns the stream, for generated code.
    #[doc(hidden)]
    pub fn new(client: &Client, inputs: I, encode: fn(I::Item) -> Args<F>) -> Self {
        Self {
            client: client.clone(),
            inputs,
            encode,
            next_index: 0,
            exhausted: false,
            concurrency: CONCURRENCY,
            options: CallOptions::default(),
            running: Running::Unordered(FuturesUnordered::new()),
        }
    }

    /// Sets the maximum number of calls in flight. The minimum is 1, and the default is 64.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls.max(1);
        self
    }

    /// Sets the timeout of each call. See [`Call::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Sets the maximum number of retries of each call. See [`Call::retries`].
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = Some(retries);
        self
    }

    /// Lets calls end at once while there is no connection. See [`Call::fail_fast`].
    pub fn fail_fast(mut self) -> Self {
        self.options.fail_fast = true;
        self
    }

    /// Yields the results in the order of the inputs. A slow call then holds back the results of
    /// the calls after it.
    ///
    /// Call this before the first result is taken, because it cancels the calls that are in flight.
    pub fn ordered(mut self) -> Self {
        self.running = Running::Ordered(FuturesOrdered::new());
        self
    }

    /// Returns the next result, or `None` after the last one.
    ///
    /// # Cancellation
    /// This is cancel-safe: dropping the returned future loses no result.
    pub async fn next(&mut self) -> Option<MapItem<F>> {
        std::future::poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Returns an iterator that blocks the current thread for each result, for programs without an
    /// async runtime.
    pub fn wait(mut self) -> impl Iterator<Item = MapItem<F>> {
        let client = self.client.clone();
        std::iter::from_fn(move || {
            if let Err(error) = blocking::check_thread() {
                // One item tells why there are no others.
                let first = !std::mem::replace(&mut self.exhausted, true);
                return first.then(|| (self.next_index, Err(error.into())));
            }
            blocking::wait(client.core(), self.next())
        })
    }

    /// Makes all calls, and returns their results in the order of the inputs. The first call to fail
    /// ends it with its error, and cancels the calls that are in flight.
    ///
    /// Results that were taken before are not among them.
    ///
    /// ```
    /// # use rpc_core::{Client, RpcError, remote};
    /// # #[remote(idempotent)]
    /// # fn square(n: u64) -> u64;
    /// # async fn example(client: &Client) -> Result<(), RpcError> {
    /// let squares: Vec<u64> = square::map(client, 1..=3).collect_ordered().await?;
    /// assert_eq!(squares, [1, 4, 9]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error of the first call to fail.
    pub fn collect_ordered(self) -> CollectOrdered<F, I> {
        CollectOrdered { map: self, results: Vec::new() }
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<MapItem<F>>> {
        while !self.exhausted && self.under_way() < self.concurrency {
            match self.inputs.next() {
                Some(input) => self.begin(input),
                None => self.exhausted = true,
            }
        }
        match &mut self.running {
            Running::Unordered(running) => Pin::new(running).poll_next(cx),
            Running::Ordered(running) => Pin::new(running).poll_next(cx),
        }
    }

    fn begin(&mut self, input: I::Item) {
        let call = Call::new(self.client.clone(), (self.encode)(input)).with(self.options.clone());
        let indexed = Indexed { index: self.next_index, call };
        self.next_index += 1;
        match &mut self.running {
            Running::Unordered(running) => running.push(indexed),
            Running::Ordered(running) => running.push_back(indexed),
        }
    }

    fn under_way(&self) -> usize {
        match &self.running {
            Running::Unordered(running) => running.len(),
            Running::Ordered(running) => running.len(),
        }
    }
}

/// A `Map` pins none of its fields: it takes inputs by `&mut`, and calls are `Unpin`.
impl<F: RemoteFn, I: Iterator> Unpin for Map<F, I> {}

impl<F: RemoteFn, I: Iterator> Stream for Map<F, I> {
    type Item = MapItem<F>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

/// The future that [`Map::collect_ordered`] returns. Await it, or block with [`wait`](Self::wait).
#[must_use = "nothing is called until it is awaited, or `.wait()` is called"]
pub struct CollectOrdered<F: RemoteFn, I: Iterator> {
    map: Map<F, I>,
    /// The results that have come, with the indexes of their inputs.
    results: Vec<(usize, F::Output)>,
}

impl<F: RemoteFn, I: Iterator> CollectOrdered<F, I> {
    /// Makes all calls and blocks the current thread until they have ended, for programs without an
    /// async runtime.
    ///
    /// # Errors
    /// The errors of [`Map::collect_ordered`].
    pub fn wait(self) -> Result<Vec<F::Output>, F::Error> {
        blocking::check_thread()?;
        let client = self.map.client.clone();
        blocking::wait(client.core(), self)
    }
}

/// It pins none of its fields, as `Map` does not.
impl<F: RemoteFn, I: Iterator> Unpin for CollectOrdered<F, I> {}

impl<F: RemoteFn, I: Iterator> Future for CollectOrdered<F, I> {
    type Output = Result<Vec<F::Output>, F::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match ready!(self.map.poll_item(cx)) {
                Some((index, Ok(result))) => self.results.push((index, result)),
                Some((_, Err(error))) => {
                    // Dropping the other calls cancels them now, and not with this future.
                    self.map.running = Running::Unordered(FuturesUnordered::new());
                    return Poll::Ready(Err(error));
                }
                None => break,
            }
        }
        let mut results = std::mem::take(&mut self.results);
        results.sort_unstable_by_key(|(index, _)| *index);
        Poll::Ready(Ok(results.into_iter().map(|(_, result)| result).collect()))
    }
}

impl<F: RemoteFn, I: Iterator> fmt::Debug for CollectOrdered<F, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectOrdered").field("map", &self.map).finish_non_exhaustive()
    }
}

impl<F: RemoteFn, I: Iterator> fmt::Debug for Map<F, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("function", &F::SIGNATURE.name)
            .field("concurrency", &self.concurrency)
            .field("under_way", &self.under_way())
            .finish_non_exhaustive()
    }
}
