//! The invocation of functions. Every call that the server runs begins and ends here, on whichever
//! thread it runs.
//!
//! A call begins in [`begin`], which refuses a call that was cancelled or whose deadline has
//! passed. It ends in [`end`]. A panic becomes an error like any other.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use crate::{
    context::Context,
    error::Ran,
    handler::{HandlerFuture, HandlerResult, Invocation},
    protocol::error::{Code, WireError},
    server::{
        admission::Permit,
        completion::{Completion, CompletionQueue, Ticket},
    },
};

pub(crate) type SyncFn = fn(&Invocation) -> HandlerResult;
pub(crate) type AsyncFn = fn(Invocation) -> HandlerFuture;

/// The raw outcome of a function: its result, or the payload of its panic.
type Returned = Result<HandlerResult, Box<dyn Any + Send>>;

/// A call that was admitted, on its way to the thread that runs it.
#[derive(Debug)]
pub(crate) struct AdmittedCall {
    pub(crate) invocation: Invocation,
    pub(crate) ticket: Ticket,
    pub(crate) permit: Permit,
}

impl AdmittedCall {
    /// Runs a sync function on this thread.
    pub(crate) fn run(self, function: SyncFn) -> Completion {
        let Self { invocation, ticket, permit } = self;
        let result = run_until_deadline(function, &invocation);
        // Dropped before the completion is sent: the capacity is free when the caller has its
        // reply.
        drop(permit);
        Completion::Ended { ticket, result }
    }

    /// Runs an async function. The future sends a completion to `queue` when the function ends, and
    /// also if the future is dropped before.
    pub(crate) fn run_async(
        self,
        function: AsyncFn,
        queue: CompletionQueue,
    ) -> impl Future<Output = ()> + Send + 'static {
        let Self { invocation, ticket, permit } = self;
        let context = invocation.context().clone();
        let guard =
            CompletionGuard { ticket, permit: Some(permit), context: context.clone(), queue };
        let running = Running { context, started: false, future: function(invocation) };
        async move {
            let result = running.await;
            guard.complete(result);
        }
    }
}

/// Runs a function on this thread, without a check of the deadline after it. An inline function
/// runs for microseconds, so its result counts even if it returns after the deadline.
pub(crate) fn run_inline(function: SyncFn, invocation: &Invocation, now: Instant) -> HandlerResult {
    let context = invocation.context();
    begin(context, now)?;
    let returned = catch_unwind(AssertUnwindSafe(|| context.scope(|| function(invocation))));
    end(context, returned)
}

/// Runs a sync function on this thread. Its result is discarded if it returns after the deadline.
fn run_until_deadline(function: SyncFn, invocation: &Invocation) -> HandlerResult {
    let result = run_inline(function, invocation, Instant::now());
    in_time(invocation.context(), result)
}

/// Begins a call.
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

/// Ends a call that has begun. A panic becomes an error.
fn end(context: &Context, returned: Returned) -> HandlerResult {
    returned.unwrap_or_else(|panic| Err(panicked(context, &*panic)))
}

/// Discards the result of a function that returned after its deadline. The result may be
/// incomplete, because a function may stop early when its deadline passes.
fn in_time(context: &Context, result: HandlerResult) -> HandlerResult {
    let returned = match &result {
        Ok(_) => true,
        // With any other value of `ran`, the function has not started.
        Err(error) => error.ran == Ran::Yes && error.code != Code::Panicked,
    };
    if !returned || context.remaining() != Some(Duration::ZERO) {
        return result;
    }
    let text = "the time ran out while the function ran";
    Err(WireError::new(Code::DeadlineExceeded, Ran::Yes, text))
}

fn panicked(context: &Context, panic: &(dyn Any + Send)) -> WireError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is no text");
    tracing::error!(function = context.function(), panic = text, "a remote function panicked");
    WireError::new(Code::Panicked, Ran::Yes, format!("the function panicked: {text}"))
}

/// The future of an async function. Calls that the function makes inherit its deadline.
struct Running {
    context: Context,
    started: bool,
    future: HandlerFuture,
}

impl Future for Running {
    type Output = HandlerResult;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<HandlerResult> {
        let Self { context, started, future } = self.get_mut();
        if !*started && let Err(error) = begin(context, Instant::now()) {
            return Poll::Ready(Err(error));
        }
        *started = true;
        let poll = || context.scope(|| future.as_mut().poll(cx));
        // After a panic the future is not polled again.
        let returned = match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => Ok(result),
            Err(panic) => Err(panic),
        };
        let result = end(context, returned);
        Poll::Ready(in_time(context, result))
    }
}

/// Sends exactly one completion for an async function, whose future may be dropped at any time.
struct CompletionGuard {
    ticket: Ticket,
    /// `None` once the completion was sent.
    permit: Option<Permit>,
    context: Context,
    queue: CompletionQueue,
}

impl CompletionGuard {
    fn complete(mut self, result: HandlerResult) {
        // Dropped before the completion is sent, as in `AdmittedCall::run`.
        self.permit = None;
        self.send(result);
    }

    fn send(&self, result: HandlerResult) {
        self.queue.send(Completion::Ended { ticket: self.ticket, result });
    }
}

impl Drop for CompletionGuard {
    fn drop(&mut self) {
        if self.permit.take().is_none() {
            return;
        }
        // The function was cancelled, or its runtime has gone. After a cancellation, this
        // completion is ignored. So the text mentions only the runtime.
        let text = "the function was dropped before it ended, because its runtime has gone";
        let ran = if self.context.cancel() { Ran::Yes } else { Ran::No };
        self.send(Err(WireError::new(Code::Cancelled, ran, text)));
    }
}

#[cfg(test)]
#[allow(clippy::unnecessary_wraps)] // All handlers have the same signature.
pub(crate) mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        peer::PeerId,
        server::{
            admission::{Admission, Usage},
            registry::tests::function,
        },
    };

    /// Makes an admitted call from `peer`, for tests that do not care about the function.
    pub(crate) fn admitted_call(peer: &'static str, ticket: u32) -> AdmittedCall {
        let permit = Admission::new(1, 0, 0).admit(Usage::default(), 0).unwrap();
        let peer = PeerId::new(Bytes::from_static(peer.as_bytes()));
        let invocation = invocation(Context::new(peer, "f", None));
        AdmittedCall { invocation, ticket: Ticket(ticket), permit }
    }

    pub(crate) fn nothing(_: &Invocation) -> HandlerResult {
        Ok(Bytes::new())
    }

    fn invocation(context: Context) -> Invocation {
        let body = Bytes::from_static(b"\x90");
        Invocation { function: function(), body, params_at: 0, id: None, context }
    }

    fn context(deadline: Option<Instant>) -> Context {
        Context::new(PeerId::default(), "f", deadline)
    }

    #[test]
    fn panic_becomes_an_error_with_its_text() {
        fn fails(_: &Invocation) -> HandlerResult {
            panic!("no luck: {}", 13)
        }
        let error = run_inline(fails, &invocation(context(None)), Instant::now()).unwrap_err();
        assert_eq!((error.code, error.ran), (Code::Panicked, Ran::Yes));
        assert_eq!(error.message, "the function panicked: no luck: 13");
    }

    #[test]
    fn ended_call_is_not_cancelled() {
        let call = admitted_call("", 1);
        let context = call.invocation.context().clone();
        let Completion::Ended { ticket, result } = call.run(nothing) else {
            panic!("the call has ended")
        };
        assert!(result.is_ok() && ticket == Ticket(1));
        assert!(!context.is_cancelled());
    }

    #[test]
    fn expired_call_does_not_start() {
        fn starts(_: &Invocation) -> HandlerResult {
            unreachable!("its time has run out")
        }
        fn starts_async(_: Invocation) -> HandlerFuture {
            Box::pin(async { unreachable!("its time has run out") })
        }
        let context = context(Some(Instant::now()));
        let expired = || invocation(context.clone());
        let error = run_inline(starts, &expired(), Instant::now()).unwrap_err();
        assert_eq!((error.code, error.ran), (Code::DeadlineExceeded, Ran::No));
        let error = run_until_deadline(starts, &expired()).unwrap_err();
        assert_eq!((error.code, error.ran), (Code::DeadlineExceeded, Ran::No));
        let future = starts_async(expired());
        let mut running = Running { context: context.clone(), started: false, future };
        let mut cx = TaskContext::from_waker(std::task::Waker::noop());
        let Poll::Ready(Err(error)) = Pin::new(&mut running).poll(&mut cx) else {
            panic!("the deadline has passed")
        };
        assert_eq!((error.code, error.ran), (Code::DeadlineExceeded, Ran::No));
    }

    #[test]
    fn result_after_the_deadline_is_discarded() {
        fn overruns(invocation: &Invocation) -> HandlerResult {
            while invocation.context().remaining() != Some(Duration::ZERO) {}
            Ok(Bytes::new())
        }
        let context = context(Some(Instant::now() + Duration::from_millis(20)));
        let error = run_until_deadline(overruns, &invocation(context)).unwrap_err();
        assert_eq!((error.code, error.ran), (Code::DeadlineExceeded, Ran::Yes));
    }

    #[test]
    fn cancelled_call_does_not_start() {
        fn starts(_: &Invocation) -> HandlerResult {
            unreachable!("it was cancelled")
        }
        let invocation = invocation(context(None));
        invocation.context.cancel();
        assert_eq!(run_inline(starts, &invocation, Instant::now()).unwrap_err().ran, Ran::No);
    }
}
