//! The invocation of functions. Every function that the server runs begins and ends here, on
//! whichever thread it runs. [`WatchedCall`] tells its span and its hooks of that.
//!
//! A function begins in [`begin`], which refuses a call that was cancelled or whose deadline has
//! passed. Whatever has begun ends in [`end`], also by a panic, or because its future was dropped.

use std::{
    future::Future,
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use crate::{
    context::Context,
    error::Ran,
    handler::{HandlerFuture, HandlerResult, Invocation},
    outlet::Outlet,
    protocol::error::{Code, WireError},
    server::{
        admission::Permit,
        completion::{Completion, CompletionQueue, Ticket},
        watched_call::{Facts, WatchedCall},
    },
    util::panics,
};

pub(crate) type SyncFn = fn(&Invocation) -> HandlerResult;
pub(crate) type AsyncFn = fn(Invocation) -> HandlerFuture;
pub(crate) type StreamFn = fn(Invocation, Outlet) -> HandlerFuture;

/// A call that was admitted, on its way to the thread that runs it.
#[derive(Debug)]
pub(crate) struct AdmittedCall {
    pub(crate) invocation: Invocation,
    pub(crate) ticket: Ticket,
    pub(crate) permit: Permit,
    /// What its hooks are told. `None` if there are none.
    pub(crate) facts: Option<Box<Facts>>,
}

impl AdmittedCall {
    /// Runs a sync function on this thread.
    pub(crate) fn run(self, function: SyncFn) -> Completion {
        let Self { invocation, ticket, permit, facts } = self;
        let result = run_sync(function, &invocation, facts, Instant::now(), Late::Discarded);
        // Dropped before the completion is sent: the capacity is free when the caller has its
        // reply.
        drop(permit);
        Completion::Ended { ticket, result }
    }

    /// Runs an async function. The future sends a completion to `queue` when the function ends, and
    /// also if the future is dropped before.
    pub(crate) fn run_async(
        self,
        function: impl FnOnce(Invocation) -> HandlerFuture,
        queue: CompletionQueue,
    ) -> impl Future<Output = ()> + Send + 'static {
        let Self { invocation, ticket, permit, facts } = self;
        let context = invocation.context().clone();
        let guard = CompletionGuard { context, permit: Some(permit), watch: None, ticket, queue };
        AsyncCall { future: Some(function(invocation)), started: false, facts, guard }
    }
}

/// Runs an inline function on this thread. It runs for microseconds, so its result counts even if
/// it returns after the deadline.
pub(crate) fn run_inline(
    function: SyncFn,
    invocation: &Invocation,
    facts: Option<Box<Facts>>,
    now: Instant,
) -> HandlerResult {
    run_sync(function, invocation, facts, now, Late::Accepted)
}

fn run_sync(
    function: SyncFn,
    invocation: &Invocation,
    facts: Option<Box<Facts>>,
    now: Instant,
    late: Late,
) -> HandlerResult {
    let context = invocation.context();
    begin(context, now)?;
    let watch = WatchedCall::begin(context, facts)?;
    let returned = {
        let _span = watch.as_ref().map(|watch| watch.span().enter());
        panics::catch(|| context.run(|| function(invocation)))
    };
    let result = end(context, returned.map_or_else(End::Panicked, End::Returned), late);
    if let Some(watch) = watch {
        watch.end(context, &result);
    }
    result
}

/// Begins a function.
///
/// # Errors
/// Returns `DeadlineExceeded` if the call was cancelled or its deadline has passed.
fn begin(context: &Context, now: Instant) -> Result<(), WireError> {
    if context.start(now) {
        return Ok(());
    }
    // The caller of a cancelled call was answered already, or is about to be. So the text mentions
    // only the deadline.
    let text = "the time ran out before the function started";
    Err(WireError::new(Code::DeadlineExceeded, Ran::No, text))
}

/// The end of a function that has begun.
enum End {
    Returned(HandlerResult),
    /// With the text of the panic.
    Panicked(String),
    /// Its future was dropped: it was cancelled, or its runtime has ended.
    Dropped,
}

/// The treatment of a result that comes after the deadline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Late {
    Accepted,
    /// The result may be incomplete: a function may stop early when its deadline passes.
    Discarded,
}

/// Ends a function, and returns its outcome.
fn end(context: &Context, end: End, late: Late) -> HandlerResult {
    let result = match end {
        End::Returned(result) => result,
        End::Panicked(text) => return Err(panicked(context, &text)),
        End::Dropped => return Err(dropped(Ran::Yes)),
    };
    // With any other value of `ran`, the handler has refused the arguments.
    let has_run = result.as_ref().map_or_else(|error| error.ran == Ran::Yes, |_| true);
    if late == Late::Discarded && has_run && context.remaining() == Some(Duration::ZERO) {
        let text = "the time ran out while the function ran";
        return Err(WireError::new(Code::DeadlineExceeded, Ran::Yes, text));
    }
    result
}

fn panicked(context: &Context, text: &str) -> WireError {
    tracing::error!(function = context.function(), panic = text, "a remote function panicked");
    WireError::new(Code::Panicked, Ran::Yes, format!("the function panicked: {text}"))
}

fn dropped(ran: Ran) -> WireError {
    let text = "the function was dropped before it ended, because its runtime has gone";
    WireError::new(Code::Cancelled, ran, text)
}

/// A running async function. Calls made in it inherit its deadline.
struct AsyncCall {
    /// `None` once the function has ended. Dropped before the guard, which then sends the
    /// completion even if the drop panics.
    future: Option<HandlerFuture>,
    started: bool,
    facts: Option<Box<Facts>>,
    guard: CompletionGuard,
}

impl AsyncCall {
    fn poll_result(&mut self, cx: &mut TaskContext<'_>) -> Poll<HandlerResult> {
        let Self { future, started, facts, guard: CompletionGuard { context, watch, .. } } = self;
        if !*started {
            let mut watched = || WatchedCall::begin(context, facts.take());
            match begin(context, Instant::now()).and_then(|()| watched()) {
                Ok(watched) => *watch = watched,
                Err(error) => return Poll::Ready(Err(error)),
            }
            *started = true;
        }
        let _span = watch.as_ref().map(|watch| watch.span().enter());
        let future = future.as_mut().expect("it is not polled after it has ended");
        let poll = || context.run(|| future.as_mut().poll(cx));
        let returned = match panics::catch(poll) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => End::Returned(result),
            Err(text) => End::Panicked(text),
        };
        // What the future still holds is dropped here, and that may panic as well.
        let returned =
            panics::catch(|| self.future = None).map_or_else(End::Panicked, |()| returned);
        Poll::Ready(end(&self.guard.context, returned, Late::Discarded))
    }
}

impl Future for AsyncCall {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let call = self.get_mut();
        call.poll_result(cx).map(|result| call.guard.complete(result))
    }
}

/// What the future holds may panic when it is dropped, here on whatever thread drops the task.
impl Drop for AsyncCall {
    fn drop(&mut self) {
        if let Err(text) = panics::catch(|| self.future = None) {
            let function = self.guard.context.function();
            tracing::error!(
                function,
                panic = text,
                "a remote function panicked when it was dropped"
            );
        }
    }
}

/// Sends exactly one completion for an async function, whose future may be dropped at any time.
struct CompletionGuard {
    context: Context,
    /// `None` once the completion was sent.
    permit: Option<Permit>,
    /// It is here so that it ends also if the future is dropped.
    watch: Option<Box<WatchedCall>>,
    ticket: Ticket,
    queue: CompletionQueue,
}

impl CompletionGuard {
    fn complete(&mut self, result: HandlerResult) {
        if let Some(watch) = self.watch.take() {
            watch.end(&self.context, &result);
        }
        // The permit is dropped first, as after a sync function.
        self.permit = None;
        self.queue.send(Completion::Ended { ticket: self.ticket, result });
    }
}

impl Drop for CompletionGuard {
    fn drop(&mut self) {
        if self.permit.is_none() {
            return;
        }
        let has_started = self.context.cancel();
        let result = if has_started {
            end(&self.context, End::Dropped, Late::Discarded)
        } else {
            Err(dropped(Ran::No))
        };
        self.complete(result);
    }
}

#[cfg(test)]
#[allow(clippy::unnecessary_wraps)] // All handlers have the same signature.
pub(crate) mod tests;
