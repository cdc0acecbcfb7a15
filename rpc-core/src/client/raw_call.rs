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
            CallKind, NewCall, Outcome,
            retry::{CallPolicy, Extras},
        },
        config::deadline_after,
        hooks::WatchedCall,
    },
    context::inherited_deadline,
    error::{ErrorKind, Ran, RpcError},
    function::{RemoteFn, Signature},
    protocol::{
        MAX_KEY_LEN, MsgId,
        metadata::{MAX_BYTES, MAX_PAIRS},
        outgoing::EncodedArgs,
    },
    util::worker_waits::all_waited,
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
}

/// The setting that decides how much time a call has.
#[derive(Debug, Clone, Copy)]
enum LimitedBy {
    Call,
    Function,
    Client,
    OuterCall,
}

impl fmt::Display for LimitedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Call => "the timeout of this call",
            Self::Function => "the timeout of the function",
            Self::Client => "the timeout of the client",
            Self::OuterCall => "what was left of the call in which it was made",
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
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        match self.stage {
            Stage::Waiting(id) => {
                self.client.core().poll_outcome(id, cx.waker()).map(|outcome| self.end(outcome))
            }
            _ => match self.begin(cx) {
                Ok(()) => Poll::Pending,
                Err(refusal) => Poll::Ready(self.end(Err(refusal))),
            },
        }
    }

    /// Ends the call with its outcome. A call that is dropped before is cancelled.
    #[inline]
    fn end(&mut self, outcome: Outcome) -> Outcome {
        self.stage = Stage::Ended;
        if outcome.is_ok() && self.watch.is_none() {
            return outcome;
        }
        self.tell_end(outcome)
    }

    #[cold]
    fn tell_end(&mut self, outcome: Outcome) -> Outcome {
        let outcome = outcome.map_err(|error| self.complete(error));
        if let Some(watch) = self.watch.take() {
            watch.end(&self.function, self.kind, Some(&outcome));
        }
        outcome
    }

    /// Adds to an error what only the call knows: its function, and whose time has run out.
    pub(super) fn complete(&self, error: RpcError) -> RpcError {
        let (time, limited_by) = self.limit;
        let error = match error.kind() {
            ErrorKind::DeadlineExceeded => error.and(format_args!("it had {time:?}, {limited_by}")),
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
        let call = NewCall { message, kind, policy, deadline, signature };
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

impl Drop for RawCall {
    fn drop(&mut self) {
        // The reply may arrive at this very moment. The lock of the client core decides this race.
        // If the call has ended already, no cancel is sent. A reply that comes later is ignored.
        if let Stage::Waiting(id) = self.stage {
            self.client.core().cancel(id);
        }
        if let Some(watch) = self.watch.take() {
            watch.end(&self.function, self.kind, None);
        }
    }
}

impl fmt::Debug for RawCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawCall").field("function", &self.function).finish_non_exhaustive()
    }
}
