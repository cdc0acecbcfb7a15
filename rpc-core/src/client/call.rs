//! A call as its caller holds it: lazy, owning its arguments, cancelled when dropped.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    args::Args,
    client::{
        Client, blocking,
        calls::{CallKind, Reply, retry::CallPolicy},
        config::deadline_after,
    },
    codec::{DecodeError, Reader},
    context::inherited_deadline,
    discover::ServiceDescription,
    error::{CallFailure, ErrorKind, Ran, RpcError},
    function::{RemoteFn, Signature},
    protocol::{MAX_KEY_LEN, MsgId, control, outgoing::EncodedArgs, response},
};

impl Client {
    /// Returns the call of `F` with `args`. For generic code: `F::call(&client, ...)` is shorter.
    pub fn call<F: RemoteFn>(&self, args: Args<F>) -> Call<F> {
        Call::new(self.clone(), args)
    }

    /// Returns the notification of `F` with `args`. For generic code: `F::notify(&client, ...)` is
    /// shorter.
    pub fn notify<F: RemoteFn>(&self, args: Args<F>) -> Notify {
        Notify::new(self.clone(), args)
    }

    /// Returns the call of a function that is known by name only. `params` becomes the params of the
    /// request: a tuple or sequence by position, a struct or map by parameter name, `()` for none.
    /// Bytes among them need `serde_bytes`. The result is decoded to `R`.
    ///
    /// ```
    /// # async fn example(client: rpc_core::Client) -> Result<(), rpc_core::RpcError> {
    /// let sum = client.call_dynamic::<i64>("add", (1, 2)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`RpcError`]. The function's own error has kind [`Failed`](ErrorKind::Failed), and
    /// [`RpcError::data`] decodes it.
    pub fn call_dynamic<R>(&self, name: &str, params: impl Serialize) -> Call<Dynamic<R>>
    where
        R: DeserializeOwned + Send + 'static,
    {
        self.call(Args::dynamic(name, &params))
    }

    /// Asks a server whether it is there. The answer comes from its I/O thread, so that a server with
    /// busy workers answers as fast as an idle one.
    ///
    /// # Errors
    /// [`RpcError`] if it did not answer in the client's timeout.
    pub fn ping(&self) -> Call<Dynamic<()>> {
        self.call_dynamic(control::PING, ()).idempotent()
    }

    /// Asks a server for a description of its functions.
    ///
    /// # Errors
    /// [`RpcError`] if it did not answer in the client's timeout.
    pub fn discover(&self) -> Call<Dynamic<ServiceDescription>> {
        self.call_dynamic(control::DISCOVER, ()).idempotent()
    }
}

/// A call of the remote function `F`, made by `F::call(&client, ...)`.
///
/// It is a lazy future: nothing is sent, and its time does not run, until it is polled. It owns its
/// encoded arguments, so that it can be spawned, joined and selected.
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
/// Dropping it cancels the call. If it was not sent yet it never will be; otherwise the server is
/// told: what has not started never starts, an async function is dropped, a sync one can ask its
/// context.
///
/// # Errors
/// [`RpcError`], or [`CallError<E>`](crate::CallError) if the function returns `Result<T, E>`. It
/// never waits beyond its timeout.
#[must_use = "a call does nothing until it is awaited, or `.wait()` is called"]
pub struct Call<F> {
    raw: RawCall,
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

    /// Sets how long the call may take, from its first poll to the reply. Without it the function's
    /// timeout holds, then the client's, then 30 s; and never more than what is left of the call
    /// that this one is made in: that is found out when the call is created, on the thread or in
    /// the task of the function that runs. In a task or thread that the function spawned there is
    /// no such call: pass on what [`Context::remaining`](crate::Context::remaining) says.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.raw.options.timeout = Some(timeout);
        self
    }

    /// Sets how often the call may be made again when its connection was lost, or its server was
    /// overloaded or shutting down; `0` for never. Without it the function's number holds, then the
    /// client's, then as often as the deadline allows.
    ///
    /// It is made again only if that is safe: the function is `idempotent`, the failure says that
    /// it never ran, or it has an [idempotency key](Self::idempotency_key). After any other failure
    /// it is never made again. The pause before a retry grows from 10 ms to 1 s, or is as long as
    /// the server asked for; another endpoint is preferred to the one that failed. All retries of a
    /// client share a budget: a fifth of its calls, ten a second, and a thousand at once; a retry
    /// that exceeds it waits.
    pub fn retries(mut self, retries: u32) -> Self {
        self.raw.options.retries = Some(retries);
        self
    }

    /// The call ends at once as [`Disconnected`](ErrorKind::Disconnected) if there is no connection
    /// to any endpoint (or, for a call with a key that may have run, to the server that remembers
    /// it), instead of waiting for one within its deadline. An endpoint that is being connected for
    /// the first time is waited for.
    pub fn fail_fast(mut self) -> Self {
        self.raw.options.fail_fast = true;
        self
    }

    /// Says that making the call twice does no harm, of a function that is known by name only;
    /// others say it in their attribute.
    pub fn idempotent(mut self) -> Self {
        self.raw.options.idempotent = true;
        self
    }

    /// Names the call, with 1 to 64 bytes, so that it can be made again although its function is
    /// not idempotent: the server remembers the reply under this name, and answers a call of the
    /// same name with it instead of running the function once more. The name must be this call's
    /// own, such as a random UUID.
    ///
    /// Replies are remembered by one server process, for a bounded time and in bounded number (see
    /// [`ServerBuilder`](crate::ServerBuilder::remember_replies_for)). So a call that may have run
    /// is made again on the same process only: it waits within its deadline for the connection to
    /// that process (with [`fail_fast`](Self::fail_fast) it does not), and if another process has
    /// taken the place it ends as [`Disconnected`](ErrorKind::Disconnected). Either way it may have
    /// run. To make such a call again by hand, with the same key, is safe only if it reaches the
    /// same process: another would run it again.
    ///
    /// What is remembered is what came of the first call that has started, whatever that was: also
    /// that its time ran out, or that it panicked. To use a key for another function or other
    /// arguments is a [`BadRequest`](ErrorKind::BadRequest). If the function is idempotent besides,
    /// any server will do.
    pub fn idempotency_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.raw.options.key = Some(Bytes::copy_from_slice(key.as_ref()));
        self
    }

    /// Makes the call and blocks the thread until it has ended, for programs without an async
    /// runtime. In an async function it would block the runtime's thread: await the call there.
    ///
    /// # Errors
    /// As awaiting it.
    ///
    /// # Panics
    /// As every future, if it was polled before and has ended.
    pub fn wait(self) -> Result<F::Output, F::Error> {
        let client = self.raw.client.clone();
        blocking::wait(client.core(), self)
    }

    fn decode(&self, reply: &Reply) -> Result<F::Output, F::Error> {
        let body = &reply.body;
        let locate = |error: RpcError| error.of(self.raw.function.clone()).at(&reply.endpoint);
        let protocol = |message: String| RpcError::new(ErrorKind::Protocol, Ran::Yes, message);
        let range = match response::parse_response(body) {
            Some(Ok(range)) => range,
            Some(Err(error)) => {
                let error = if reply.maybe_ran { error.or_earlier_try() } else { error };
                return Err(F::Error::from_reply(locate(error)));
            }
            None => {
                let error =
                    RpcError::new(ErrorKind::Protocol, Ran::Maybe, "the reply is malformed");
                return Err(locate(error).into());
            }
        };
        let mut reader = Reader::new(body, &body[range]);
        let decoded = F::decode_output(&mut reader).map_err(|cause| {
            let output = std::any::type_name::<F::Output>();
            protocol(format!("the result is no `{output}`")).with_source(cause)
        });
        match decoded {
            Ok(_) if !reader.is_at_end() => {
                Err(locate(protocol("bytes follow the result".to_owned())).into())
            }
            Ok(output) => Ok(output),
            Err(error) => Err(locate(error).into()),
        }
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
        f.debug_struct("Call").field("function", &F::SIGNATURE.name).finish_non_exhaustive()
    }
}

/// A notification: a call whose result, and whether it ran at all, nobody will know. Made by
/// `F::notify(&client, ...)`.
///
/// A lazy future that is ready when the message is with the socket. Dropping it before that means
/// that it is not sent. What is with the socket is sent in the background: a program that ends soon
/// after has to [close](Client::close) the client first.
///
/// # Errors
/// [`RpcError`] if there was no connection to send it on before its time ran out.
#[must_use = "a notification is not sent until it is awaited, or `.wait()` is called"]
pub struct Notify {
    raw: RawCall,
}

impl Notify {
    pub(crate) fn new<F: RemoteFn>(client: Client, args: Args<F>) -> Self {
        Self { raw: RawCall::new(client, args, CallKind::Notification) }
    }

    /// Sets how long sending may take, from the first poll until the message is with the socket.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.raw.options.timeout = Some(timeout);
        self
    }

    /// Blocks the thread until the message is with the socket, for programs without an async
    /// runtime.
    ///
    /// # Errors
    /// As awaiting it.
    pub fn wait(self) -> Result<(), RpcError> {
        let client = self.raw.client.clone();
        blocking::wait(client.core(), self)
    }
}

impl Future for Notify {
    type Output = Result<(), RpcError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.raw.poll(cx).map(|sent| sent.map(drop))
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").field("function", &self.raw.function).finish_non_exhaustive()
    }
}

/// Stands for a function that is known by name only, whose result is an `R`. See
/// [`Client::call_dynamic`].
pub struct Dynamic<R>(PhantomData<fn() -> R>);

impl<R: DeserializeOwned + Send + 'static> RemoteFn for Dynamic<R> {
    type Output = R;
    type Error = RpcError;
    const SIGNATURE: &'static Signature = &Signature::new("", "", &[]);

    fn decode_output(reader: &mut Reader<'_>) -> Result<R, DecodeError> {
        reader.value()
    }
}

impl<R> fmt::Debug for Dynamic<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dynamic")
    }
}

/// What a call says that its client, or its function, would say otherwise.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: Option<u32>,
    pub(crate) fail_fast: bool,
    pub(crate) idempotent: bool,
    pub(crate) key: Option<Bytes>,
}

/// What calls and notifications have in common: everything but the types.
struct RawCall {
    client: Client,
    function: std::borrow::Cow<'static, str>,
    signature: &'static Signature,
    kind: CallKind,
    options: CallOptions,
    /// What is left of the call that this one was made in.
    inherited: Option<Instant>,
    stage: Stage,
}

enum Stage {
    /// Not polled yet.
    New(EncodedArgs),
    Waiting(MsgId),
    Ended,
}

impl RawCall {
    fn new<F: RemoteFn>(client: Client, args: Args<F>, kind: CallKind) -> Self {
        let args = args.into_encoded();
        Self {
            client,
            function: args.method.clone(),
            signature: F::SIGNATURE,
            kind,
            options: CallOptions::default(),
            inherited: inherited_deadline(),
            stage: Stage::New(args),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, RpcError>> {
        let Stage::Waiting(id) = self.stage else {
            return match self.submit(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error.of(self.function.clone()))),
            };
        };
        self.client.core().poll_outcome(id, cx.waker()).map(|outcome| {
            self.stage = Stage::Ended;
            outcome.map_err(|error| error.of(self.function.clone()))
        })
    }

    fn submit(&mut self, cx: &mut Context<'_>) -> Result<(), RpcError> {
        let Stage::New(args) = std::mem::replace(&mut self.stage, Stage::Ended) else {
            panic!("a call was polled after it had ended");
        };
        let refuse = |kind, message| Err(RpcError::new(kind, Ran::No, message));
        let now = Instant::now();
        let timeout = self.options.timeout.or(self.signature.timeout);
        let own = deadline_after(now, timeout.unwrap_or_else(|| self.client.config().timeout));
        let deadline = self.inherited.map_or(own, |inherited| inherited.min(own));
        if deadline <= now {
            return refuse(ErrorKind::DeadlineExceeded, "no time was left before it could be sent");
        }
        if self.options.key.as_ref().is_some_and(|key| !(1..=MAX_KEY_LEN).contains(&key.len())) {
            return refuse(ErrorKind::BadArguments, "an idempotency key has 1 to 64 bytes");
        }
        let policy = CallPolicy {
            idempotent: self.options.idempotent || self.signature.idempotent,
            retries: self
                .options
                .retries
                .or(self.signature.retries)
                .unwrap_or_else(|| self.client.config().retries),
            fail_fast: self.options.fail_fast || self.client.config().fail_fast,
            key: self.options.key.take(),
        };
        let id = self.client.core().submit(args, self.kind, policy, deadline, cx.waker(), now)?;
        self.stage = Stage::Waiting(id);
        Ok(())
    }
}

impl Drop for RawCall {
    fn drop(&mut self) {
        // The reply may arrive at this very moment. The table decides: if the call has ended
        // nothing is sent, and a reply that comes later finds nobody.
        if let Stage::Waiting(id) = self.stage {
            self.client.core().cancel(id);
        }
    }
}

impl fmt::Debug for RawCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawCall").field("function", &self.function).finish_non_exhaustive()
    }
}
