//! The common part of calls and notifications, which does not depend on the types of the function.
//!
//! Every call of a client begins and ends here, in the task of its caller and without a lock.
//! [`WatchedCall`] tells its span and its hooks of that.

use std::{
    borrow::Cow,
    fmt,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::{
    args::Args,
    client::{
        Client,
        calls::{
            CallKind, NewCall, Next, Outcome,
            flows::{Flows, Outbox, StreamOptions},
            retry::{CallPolicy, Extras},
        },
        hooks::WatchedCall,
        upload::Upload,
    },
    context::inherited_deadline,
    error::{ErrorKind, Ran, RpcError},
    function::{RemoteFn, Signature},
    inflow::Inflow,
    protocol::{
        MAX_KEY_LEN, MsgId,
        metadata::{MAX_BYTES, MAX_PAIRS},
        outgoing::EncodedArgs,
    },
    util::{deadline::deadline_after, worker_waits::all_waited},
};

/// The options of a call, which override those of its function and of its client.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: Option<u32>,
    pub(crate) fail_fast: bool,
    pub(crate) idempotent: bool,
    pub(crate) extras: Option<Box<Extras>>,
}

impl CallOptions {
    pub(super) fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }
}

/// The common part of calls and notifications, which does not depend on the types of the function.
pub(super) struct RawCall {
    pub(super) client: Client,
    pub(super) function: Cow<'static, str>,
    signature: &'static Signature,
    kind: CallKind,
    pub(super) options: CallOptions,
    /// The deadline of the call in whose function this call was created.
    inherited: Option<Instant>,
    /// The time that the call has from its beginning on, and the setting that decides it.
    limit: (Duration, LimitedBy),
    stage: Stage,
    watch: Option<Box<WatchedCall>>,
    /// `None` if items go neither way.
    pub(super) streams: Option<Box<CallStreams>>,
}

/// The streams of a call.
#[derive(Debug, Default)]
pub(super) struct CallStreams {
    /// The stream that the call passes. `None` unless it has one, and the server may take more of
    /// it.
    pub(super) upload: Option<Upload>,
    pub(super) takes_stream: bool,
    /// The limits of the stream that the call takes, which override those of its client.
    pub(super) window: Option<u64>,
    pub(super) idle: Option<Duration>,
    /// The time by which the call must have ended, if anybody has asked for one.
    pub(super) deadline: Option<Instant>,
}

/// The setting that decides how much time a call has.
#[derive(Debug, Clone, Copy)]
enum LimitedBy {
    Call,
    Function,
    Client,
    OuterCall,
    Idle,
}

impl fmt::Display for LimitedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Call => "the timeout of this call",
            Self::Function => "the timeout of the function",
            Self::Client => "the timeout of the client",
            Self::OuterCall => "what was left of the call in which it was made",
            Self::Idle => "the idle timeout of the stream (`stream_idle_timeout`)",
        })
    }
}

enum Stage {
    /// The call was not polled yet.
    New(EncodedArgs),
    /// The client core has the call under this id.
    Waiting(MsgId),
    /// The outcome was returned, or the call was refused.
    Ended,
}

impl RawCall {
    /// Returns how far the call has come, for `Debug`.
    pub(super) fn stage(&self) -> &'static str {
        match self.stage {
            Stage::New(_) => "not awaited yet",
            Stage::Waiting(_) => "waits for the reply",
            Stage::Ended => "ended",
        }
    }

    pub(super) fn new<F: RemoteFn>(client: Client, args: Args<F>, kind: CallKind) -> Self {
        let args = args.into_encoded();
        Self {
            client,
            function: args.method.clone(),
            signature: F::SIGNATURE,
            kind,
            options: CallOptions::default(),
            inherited: inherited_deadline(),
            limit: (Duration::ZERO, LimitedBy::Call),
            stage: Stage::New(args),
            watch: None,
            streams: None,
        }
    }

    /// Polls for the next items of a stream, or its end.
    pub(super) fn poll_items(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        match self.stage {
            Stage::Waiting(id) => {
                let next = self.client.core().poll_items(id, cx.waker());
                if let Poll::Ready(Next::End(outcome)) = next {
                    return Poll::Ready(Next::End(self.end(outcome)));
                }
                // What is passed does not wait for the caller to take all that has come.
                match self.pass(id, cx) {
                    Ok(()) => next,
                    Err(error) => Poll::Ready(Next::End(self.end(Err(error)))),
                }
            }
            _ => match self.begin(cx) {
                Ok(()) => Poll::Pending,
                Err(refusal) => Poll::Ready(Next::End(self.end(Err(refusal)))),
            },
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        match self.stage {
            Stage::Waiting(id) => {
                let outcome = self.client.core().poll_outcome(id, cx.waker());
                // It was polled before, so that credit which comes now wakes the caller.
                if outcome.is_pending()
                    && self.streams.is_some()
                    && let Err(error) = self.pass(id, cx)
                {
                    return Poll::Ready(self.end(Err(error)));
                }
                outcome.map(|outcome| self.end(outcome))
            }
            _ => match self.begin(cx) {
                Ok(()) => Poll::Pending,
                Err(refusal) => Poll::Ready(self.end(Err(refusal))),
            },
        }
    }

    /// Passes items of the stream among the arguments, if there is one, as far as the server takes
    /// them. To be called after the call was polled: credit that comes later wakes the caller.
    ///
    /// # Errors
    /// Returns an error if an item cannot be sent. The call is cancelled.
    #[cold]
    fn pass(&mut self, id: MsgId, cx: &mut Context<'_>) -> Result<(), RpcError> {
        let Some(streams) = &mut self.streams else { return Ok(()) };
        let Some(upload) = &mut streams.upload else { return Ok(()) };
        let core = self.client.core();
        let passed = upload.pass(core, id, cx);
        if passed.as_ref().is_ok_and(|more| *more) {
            return Ok(());
        }
        streams.upload = None;
        passed.map(drop).inspect_err(|_| core.cancel(id))
    }

    /// Ends the call with its outcome. A call that is dropped before is cancelled.
    #[inline]
    fn end(&mut self, outcome: Outcome) -> Outcome {
        self.stage = Stage::Ended;
        if outcome.is_ok() && self.watch.is_none() && self.streams.is_none() {
            return outcome;
        }
        self.tell_end(outcome)
    }

    #[cold]
    fn tell_end(&mut self, outcome: Outcome) -> Outcome {
        // The stream that was passed is dropped with the call, and not when its caller drops that.
        if let Some(streams) = &mut self.streams {
            streams.upload = None;
        }
        let outcome = outcome.map_err(|error| self.complete(error));
        if let Some(watch) = self.watch.take() {
            watch.end(&self.function, self.kind, Some(&outcome));
        }
        outcome
    }

    /// Adds to an error what only the call knows: its function, and whose time has run out.
    pub(super) fn complete(&self, error: RpcError) -> RpcError {
        let error = match error.kind() {
            ErrorKind::DeadlineExceeded => {
                let (time, limited_by) = self.passed_limit();
                error.and(format_args!("it had {time:?}, {limited_by}"))
            }
            _ => error,
        };
        let error = match all_waited().filter(|_| error.kind() == ErrorKind::DeadlineExceeded) {
            Some(workers) => error.and(format_args!(
                "all {workers} workers of this process waited for calls, as this one did: if the \
                 calls were to their own server, no worker was left to run them (make the functions \
                 async, or raise `ServerBuilder::workers`)"
            )),
            None => error,
        };
        error.of(self.function.clone())
    }

    /// Returns the limit that the call has passed.
    fn passed_limit(&self) -> (Duration, LimitedBy) {
        match self.streams.as_deref() {
            Some(CallStreams { deadline, idle: Some(idle), .. })
                if deadline.is_none_or(|deadline| Instant::now() < deadline) =>
            {
                (*idle, LimitedBy::Idle)
            }
            _ => self.limit,
        }
    }

    /// Takes the extras, with the metadata that all calls of the client have.
    fn extras(&mut self) -> Option<Box<Extras>> {
        let common = &self.client.config().metadata;
        if common.encoded().is_some() {
            let own = &mut self.options.extras.get_or_insert_default().metadata;
            let mut metadata = common.clone();
            metadata.extend(own);
            *own = metadata;
        }
        self.options.extras.take()
    }

    /// Makes the streams of a call, which must have ended by the `deadline` if anything limits all
    /// of it.
    #[cold]
    fn flows(&mut self, deadline: Instant) -> Option<Box<Flows>> {
        let config = self.client.config();
        let streams = self.streams.as_mut()?;
        let is_limited = !matches!(self.limit, (_, LimitedBy::Idle));
        streams.deadline = is_limited.then_some(deadline);
        let idle = *streams.idle.get_or_insert(config.stream_idle_timeout);
        let window = streams.window.unwrap_or(config.stream_window).max(1);
        let window = usize::try_from(window).unwrap_or(usize::MAX);
        let options = StreamOptions { idle, deadline: streams.deadline };
        Some(Box::new(Flows {
            options,
            inbox: streams.takes_stream.then(|| Inflow::new(window)),
            outbox: streams.upload.is_some().then(Outbox::default),
        }))
    }

    /// Begins the call: its timeout starts, and the client core takes it in.
    fn begin(&mut self, cx: &mut Context<'_>) -> Result<(), RpcError> {
        let Stage::New(args) = std::mem::replace(&mut self.stage, Stage::Ended) else {
            panic!("a call was polled after it had ended");
        };
        let refuse = |kind, message| Err(RpcError::new(kind, Ran::No, message));
        let hooks = &self.client.config().hooks;
        self.watch = WatchedCall::begin(hooks, &self.function, self.kind, &mut self.options.extras);
        let now = Instant::now();
        let (timeout, limited_by) = match (self.options.timeout, self.signature.timeout) {
            (Some(timeout), _) => (timeout, LimitedBy::Call),
            (None, Some(timeout)) => (timeout, LimitedBy::Function),
            // A stream may take as long as it likes.
            (None, None) if self.streams.is_some() => (Duration::MAX, LimitedBy::Idle),
            (None, None) => (self.client.config().timeout, LimitedBy::Client),
        };
        let own = deadline_after(now, timeout);
        self.limit = (timeout, limited_by);
        let mut deadline = own;
        if let Some(inherited) = self.inherited.filter(|inherited| *inherited < own) {
            let left = inherited.saturating_duration_since(now);
            // Rounded, for a text that is easy to read.
            let left = Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            self.limit = (left, LimitedBy::OuterCall);
            deadline = inherited;
        }
        let flows = if self.streams.is_some() { self.flows(deadline) } else { None };
        if let Some(flows) = &flows {
            deadline = flows.next_deadline(now);
        }
        if deadline <= now {
            return refuse(ErrorKind::DeadlineExceeded, "no time was left before it could be sent");
        }
        let policy = CallPolicy {
            idempotent: self.options.idempotent || self.signature.idempotent,
            retries: self
                .options
                .retries
                .or(self.signature.retries)
                .unwrap_or_else(|| self.client.config().retries),
            fail_fast: self.options.fail_fast || self.client.config().fail_fast,
            extras: self.extras(),
        };
        if let Some(extras) = &policy.extras {
            check(extras)?;
        }
        let message = args.finish().map_err(|cause| {
            RpcError::new(ErrorKind::BadArguments, Ran::No, "the arguments cannot be encoded")
                .with_source(cause)
        })?;
        let Self { kind, signature, .. } = *self;
        let call = NewCall { message, kind, policy, deadline, signature, flows };
        let id = self.client.core().submit(call, cx.waker(), now)?;
        self.stage = Stage::Waiting(id);
        Ok(())
    }
}

/// Checks the limits of the protocol.
fn check(extras: &Extras) -> Result<(), RpcError> {
    let refuse = |message: String| Err(RpcError::new(ErrorKind::BadArguments, Ran::No, message));
    if extras.idempotency.as_ref().is_some_and(|key| !(1..=MAX_KEY_LEN).contains(&key.len())) {
        return refuse(format!("an idempotency key has 1 to {MAX_KEY_LEN} bytes"));
    }
    match extras.metadata.check() {
        Ok(()) => Ok(()),
        Err((pairs, bytes)) => refuse(format!(
            "the metadata has {pairs} pairs and {bytes} bytes, and the limits are {MAX_PAIRS} and \
             {MAX_BYTES}"
        )),
    }
}

impl RawCall {
    /// Cancels the call, unless it has ended.
    pub(super) fn cancel(&mut self) {
        // The reply may arrive at this very moment. The lock of the client core decides this race.
        // If the call has ended already, no cancel is sent. A reply that comes later is ignored.
        if let Stage::Waiting(id) = std::mem::replace(&mut self.stage, Stage::Ended) {
            self.client.core().cancel(id);
        }
        if let Some(watch) = self.watch.take() {
            watch.end(&self.function, self.kind, None);
        }
    }
}

impl Drop for RawCall {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for RawCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawCall").field("function", &self.function).finish_non_exhaustive()
    }
}
