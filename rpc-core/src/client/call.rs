//! Calls as futures: they are lazy, own their arguments, and are cancelled when they are dropped.

use std::{
    any::type_name,
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    args::Args,
    client::{
        Client, blocking,
        calls::{CallKind, Reply},
        raw_call::{CallOptions, RawCall},
        upload::Upload,
    },
    codec::{DecodeError, Reader, read_whole},
    discover::ServiceDescription,
    error::{CallFailure, ErrorKind, Ran, RpcError},
    function::{RemoteFn, Signature},
    protocol::{control, response},
    util::fnv,
};

impl Client {
    /// Returns a call of the function `F` with `args`, for generic code. Other code uses the
    /// shorter `F::call(&client, ...)`.
    pub fn call<F: RemoteFn>(&self, args: Args<F>) -> Call<F> {
        Call::new(self.clone(), args)
    }

    /// Returns a call of a function that is known by name only. Its result is decoded as `R`.
    ///
    /// `params` becomes the params of the request. A tuple or a sequence passes them by position, a
    /// struct or a map passes them by name, and `()` passes none. Byte strings among them need
    /// `serde_bytes`.
    ///
    /// ```
    /// # async fn example(client: rpc_core::Client) -> Result<(), rpc_core::RpcError> {
    /// let sum = client.call_dynamic::<i64>("add", (1, 2)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The call ends with an [`RpcError`] if it fails. The function's own error has the kind
    /// [`Failed`](ErrorKind::Failed), and [`RpcError::data`] decodes it.
    pub fn call_dynamic<R>(&self, name: &str, params: impl Serialize) -> Call<Dynamic<R>>
    where
        R: DeserializeOwned + Send + 'static,
    {
        self.call(Args::dynamic(name, &params))
    }

    /// Returns a call that checks that a server answers.
    ///
    /// The answer comes from the I/O thread of the server. A server with busy workers therefore
    /// answers as fast as an idle one.
    ///
    /// # Errors
    /// The call ends with an [`RpcError`] if no server has answered within the client's timeout.
    pub fn ping(&self) -> Call<Dynamic<()>> {
        self.call_dynamic(control::PING, ()).idempotent()
    }

    /// Returns a call that asks a server for a description of its functions.
    ///
    /// # Errors
    /// The call ends with an [`RpcError`] if no server has answered within the client's timeout.
    pub fn discover(&self) -> Call<Dynamic<ServiceDescription>> {
        self.call_dynamic(control::DISCOVER, ()).idempotent()
    }
}

/// A call of the remote function `F`, made by `F::call(&client, ...)`.
///
/// A call is a lazy future: nothing is sent, and its timeout does not begin, until it is first
/// polled. The call owns its encoded arguments, so that it can be spawned, joined and selected.
///
/// ```
/// # use std::time::Duration;
/// use rpc_core::{CallError, Client, remote};
///
/// #[remote]
/// fn divide(a: i64, b: i64) -> Result<i64, String> {
///     a.checked_div(b).ok_or_else(|| format!("{a} cannot be divided by {b}"))
/// }
///
/// # async fn example(client: &Client) {
/// match divide::call(client, 1, 0).timeout(Duration::from_millis(200)).await {
///     Ok(quotient) => println!("{quotient}"),
///     Err(CallError::Failed(reason)) => println!("the function said: {reason}"),
///     Err(CallError::Rpc(error)) => println!("{error:#}; did it run? {:?}", error.ran()),
/// }
/// # }
/// ```
///
/// # Cancellation
/// Dropping the future cancels the call. A call that was not sent yet is never sent. Otherwise, the
/// client tells the server:
///
/// - A function that has not started never starts.
/// - An async function is dropped.
/// - A sync function runs on, and can ask its [`Context`](crate::Context).
///
/// # Errors
/// The call ends with an [`RpcError`] if it fails, or with a [`CallError<E>`](crate::CallError) if
/// the function returns `Result<T, E>`. A call never waits beyond its timeout.
///
/// # Panics
/// Like most futures, a call panics if it is polled again after it has ended.
#[must_use = "a call does nothing until it is awaited, or `.wait()` is called"]
pub struct Call<F> {
    pub(super) raw: RawCall,
    function: PhantomData<fn() -> F>,
}

impl<F: RemoteFn> Call<F> {
    pub(crate) fn new(client: Client, args: Args<F>) -> Self {
        Self { raw: RawCall::new::<F>(client, args, CallKind::Request), function: PhantomData }
    }

    /// Sets all options at once.
    pub(crate) fn with(mut self, options: CallOptions) -> Self {
        self.raw.options = options;
        self
    }

    /// Passes a stream as an argument.
    #[doc(hidden)]
    pub fn passing(mut self, upload: Upload) -> Self {
        self.raw.streams.get_or_insert_default().upload = Some(upload);
        self
    }

    /// Sets the timeout of the call, from its first poll to the reply.
    ///
    /// If it is not set, the timeout of the function applies, or else that of the client, which is
    /// 30 s by default.
    ///
    /// If the call passes a stream, this limits the whole call. Without it, and without a timeout of
    /// the function, such a call may last for as long as its items flow: only the
    /// [idle timeout](crate::ClientBuilder::stream_idle_timeout) applies.
    ///
    /// A call that is made in a remote function never gets more time than is left of the outer
    /// call. The deadline of the outer call is looked up when this call is created, on the thread
    /// or in the task that runs the function. In a task or thread that the function has spawned,
    /// there is no outer call, unless it is spawned by [`Context::spawn`](crate::Context::spawn) or
    /// runs within [`Context::scope`](crate::Context::scope).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.raw.options.timeout = Some(timeout);
        self
    }

    /// Sets the maximum number of retries of the call. With `0`, the call is never retried.
    ///
    /// If it is not set, the number of the function applies, or else that of the client. By
    /// default, a call is retried as often as its deadline allows.
    ///
    /// A call is retried if its connection was lost, or if its server was overloaded or shutting
    /// down. It is never retried after another failure. It is retried only if that is safe:
    ///
    /// - the function is `idempotent`, or
    /// - the failure tells that the function never ran, or
    /// - the call has an [idempotency key](Self::idempotency_key).
    ///
    /// The backoff before a retry grows from 10 ms to 1 s, or is as long as the server asked for. A
    /// retry prefers another endpoint to the one that failed. All retries of a client share a
    /// budget: 1,000 at once, and after that a fifth of its calls plus ten a second. A retry beyond
    /// the budget waits.
    pub fn retries(mut self, retries: u32) -> Self {
        self.raw.options.retries = Some(retries);
        self
    }

    /// Lets the call end at once as [`Disconnected`](ErrorKind::Disconnected) if there is no
    /// connection to any endpoint.
    ///
    /// Without this option, the call waits for a connection within its deadline. Even with this
    /// option, the call waits while an endpoint is being connected for the first time.
    ///
    /// A call with an [idempotency key](Self::idempotency_key) that may have run can be retried
    /// only at the server that remembers it. Such a call ends at once if there is no connection to
    /// that server.
    pub fn fail_fast(mut self) -> Self {
        self.raw.options.fail_fast = true;
        self
    }

    /// Declares that it does no harm to run the function twice, so that the call can be retried.
    ///
    /// This is for functions that are known by name only. Other functions declare it in their
    /// `#[remote]` attribute.
    pub fn idempotent(mut self) -> Self {
        self.raw.options.idempotent = true;
        self
    }

    /// Sets an idempotency key of 1 to 64 bytes, so that the call can be retried although its
    /// function is not idempotent.
    ///
    /// The server remembers the reply under this key. It answers another call with the same key
    /// from memory, instead of running the function again. The key must be unique to this call,
    /// such as a random UUID.
    ///
    /// # Scope of a key
    /// A single server process remembers the reply, for a bounded time and in a bounded number. See
    /// [`ServerBuilder::remember_replies_for`](crate::ServerBuilder::remember_replies_for). A call
    /// that may have run is therefore retried only at the same process:
    ///
    /// - The call waits within its deadline for a connection to that process. With
    ///   [`fail_fast`](Self::fail_fast), it does not wait.
    /// - If another process has taken over the endpoint, the call ends as
    ///   [`Disconnected`](ErrorKind::Disconnected).
    ///
    /// In both cases, a call that fails may have run. Retrying it by hand with the same key is safe
    /// only if the retry reaches the same process, because another process would run the function
    /// again.
    ///
    /// If the function is idempotent as well, the call can be retried at any server.
    ///
    /// # Remembered outcomes
    /// The server remembers the outcome of the first call that has started, whatever the outcome
    /// was. This includes a deadline that has passed, and a panic. A call that uses the same key
    /// for another function or with other arguments fails as [`BadRequest`](ErrorKind::BadRequest).
    pub fn idempotency_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.raw.options.extras().idempotency = Some(key.as_ref().into());
        self
    }

    /// Sends the call to the server that `key` belongs to, such as the one that has it in a cache.
    ///
    /// All clients that connect to the same endpoints, written in the same way, send a key to the
    /// same server. One that reaches a server at `ipc://` and another that does at `tcp://` may not. When one of N servers leaves, about one key in N moves, and no other
    /// (rendezvous hashing). While a server is away, overloaded or full, its keys go to other
    /// servers, each key always to the same. It is a preference, and no lock: two servers may have
    /// calls with one key at the same time.
    ///
    /// Without a key, the [policy](crate::ClientBuilder::balancing) of the client decides.
    pub fn affinity_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.raw.options.extras().affinity = Some(fnv::hash(key.as_ref()));
        self
    }

    /// Makes the call and blocks the current thread until it has ended, for programs without an
    /// async runtime.
    ///
    /// In an async function, this would block a thread of the runtime: await the call instead.
    ///
    /// # Errors
    /// The errors of awaiting the [call](Call#errors).
    ///
    /// # Panics
    /// Panics if the call was polled before and has ended.
    pub fn wait(self) -> Result<F::Output, F::Error> {
        let client = self.raw.client.clone();
        let checked = blocking::check_thread().and_then(|()| client.core().check_process());
        checked.map_err(|error| self.raw.complete(error))?;
        blocking::wait(client.core(), self)
    }

    fn decode(&self, reply: &Reply) -> Result<F::Output, F::Error> {
        let body = &reply.body;
        let locate = |error: RpcError| self.raw.complete(error).at(&reply.endpoint.name);
        let range = match response::parse_response(body) {
            Some(Ok(range)) => range,
            Some(Err(error)) => {
                let error = if reply.maybe_ran { error.or_earlier_try() } else { error };
                return Err(F::Error::from_reply(locate(error)));
            }
            None => return Err(locate(response::malformed()).into()),
        };
        read_whole(body, &body[range], F::decode_output).map_err(|cause| {
            // Only the caller knows the type of a function that is called by name.
            let is_dynamic = F::SIGNATURE.name.is_empty();
            let output = if is_dynamic { type_name::<F::Output>() } else { F::SIGNATURE.output };
            let message = format!("the result does not decode as `{output}`{}", cause.place());
            let error = RpcError::new(ErrorKind::Protocol, Ran::Yes, message);
            locate(error.with_source(cause)).into()
        })
    }
}

impl<F: RemoteFn> Future for Call<F> {
    type Output = Result<F::Output, F::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.raw
            .poll(cx)
            .map(|reply| reply.map_or_else(|error| Err(error.into()), |reply| self.decode(&reply)))
    }
}

impl<F: RemoteFn> fmt::Debug for Call<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = self.raw.stage();
        f.debug_struct("Call").field("function", &F::SIGNATURE.name).field("stage", &stage).finish()
    }
}

/// The type of a remote function that is known by name only, and whose result is decoded as `R`.
/// See [`Client::call_dynamic`].
pub struct Dynamic<R>(PhantomData<fn() -> R>);

impl<R: DeserializeOwned + Send + 'static> RemoteFn for Dynamic<R> {
    type Output = R;
    type Error = RpcError;
    const SIGNATURE: &'static Signature = Signature::UNKNOWN;

    fn decode_output(reader: &mut Reader<'_>) -> Result<R, DecodeError> {
        reader.value()
    }
}

impl<R> fmt::Debug for Dynamic<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dynamic")
    }
}
