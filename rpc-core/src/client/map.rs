//! One remote function over many inputs, with a bounded number of calls under way.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};

use crate::{
    args::Args,
    client::{
        Client, blocking,
        call::{Call, CallOptions},
    },
    function::RemoteFn,
};

/// How many calls are under way unless [`Map::concurrency`] says otherwise: enough to keep a few
/// servers busy over a network, few enough not to fill their queues.
const CONCURRENCY: usize = 64;

/// The calls of the remote function `F` for each of many inputs, made by `F::map(&client, inputs)`.
///
/// A `Stream` that yields `(index of the input, result)` as calls end, or in the order of the
/// inputs if [`ordered`](Self::ordered). Inputs are taken one by one, as calls can begin. An error
/// does not end it.
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
/// Dropping it cancels the calls that are under way.
#[must_use = "nothing is called until the stream is polled, or `.wait()` is called"]
pub struct Map<F: RemoteFn, I: Iterator> {
    client: Client,
    inputs: I,
    encode: fn(I::Item) -> Args<F>,
    next_index: usize,
    exhausted: bool,
    concurrency: usize,
    options: CallOptions,
    running: Running<F>,
}

enum Running<F: RemoteFn> {
    Unordered(FuturesUnordered<Indexed<F>>),
    /// Results that wait for an earlier one count as under way, so they are bounded as well.
    Ordered(FuturesOrdered<Indexed<F>>),
}

/// What a [`Map`] yields for one input.
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
    /// For generated code.
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

    /// Sets how many calls may be under way at once; at least one. 64 unless set.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls.max(1);
        self
    }

    /// Sets the timeout of each call. See [`Call::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Sets how often each call may be tried again. See [`Call::retries`].
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = Some(retries);
        self
    }

    /// Calls end at once while there is no connection. See [`Call::fail_fast`].
    pub fn fail_fast(mut self) -> Self {
        self.options.fail_fast = true;
        self
    }

    /// Yields results in the order of the inputs. A slow call then holds back those behind it. To
    /// be called before the first result is taken: calls that are under way are cancelled.
    pub fn ordered(mut self) -> Self {
        self.running = Running::Ordered(FuturesOrdered::new());
        self
    }

    /// The next result, `None` after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<MapItem<F>> {
        std::future::poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Blocks the thread for each result, for programs without an async runtime.
    pub fn wait(mut self) -> impl Iterator<Item = MapItem<F>> {
        let client = self.client.clone();
        std::iter::from_fn(move || blocking::wait(client.core(), self.next()))
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

/// Nothing in it is ever pinned: inputs are taken by `&mut`, and calls are `Unpin`.
impl<F: RemoteFn, I: Iterator> Unpin for Map<F, I> {}

impl<F: RemoteFn, I: Iterator> Stream for Map<F, I> {
    type Item = MapItem<F>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
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
