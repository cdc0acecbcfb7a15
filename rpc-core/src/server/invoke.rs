//! The one place where every served call begins and ends, wherever it runs.
//!
//! A call begins in [`begin`], which refuses a call that is cancelled or late, and ends in [`end`]. A
//! panic becomes an error like any other.

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

/// The result of a function, before it is judged.
type Returned = Result<HandlerResult, Box<dyn Any + Send>>;

/// A call that admission has let in, on its way to the thread that runs it.
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
        // Before the completion is sent, so that a caller that has its reply finds the capacity free.
        drop(permit);
        Completion::Ended { ticket, result }
    }

    /// Runs an async function, which reports to `queue`. It reports even if it is dropped.
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

/// Runs an inline function on this thread. It may return after its deadline: there is no time to
/// notice in the microseconds that it has.
pub(crate) fn run_inline(function: SyncFn, invocation: &Invocation, now: Instant) -> HandlerResult {
    let context = invocation.context();
    begin(context, now)?;
    let returned = catch_unwind(AssertUnwindSafe(|| context.scope(|| function(invocation))));
    end(context, returned)
}

fn run_until_deadline(function: SyncFn, invocation: &Invocation) -> HandlerResult {
    let result = run_inline(function, invocation, Instant::now());
    in_time(invocation.context(), result)
}

/// Begins a call, unless it was cancelled or its time is up.
fn begin(context: &Context, now: Instant) -> Result<(), WireError> {
    if context.start(now) {
        return Ok(());
    }
    // The caller was answered already, or is about to be.
    let text = "the time ran out before the function started";
    Err(WireError::new(Code::DeadlineExceeded, Ran::No, text))
}

/// Ends a call that has begun.
fn end(context: &Context, returned: Returned) -> HandlerResult {
    returned.unwrap_or_else(|panic| Err(panicked(context, &*panic)))
}

/// Discards what a function returned after its deadline: it may have returned early because of it.
fn in_time(context: &Context, result: HandlerResult) -> HandlerResult {
    let returned = match &result {
        Ok(_) => true,
        // With another value of `ran` the function has not started.
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

/// The future of an async function. Calls made in it inherit its deadline.
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
        // First, as after a sync function.
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
        // The function was cancelled, or its runtime has gone.
        let text = "the function was dropped before it ended, because its runtime has gone";
        let ran = if self.context.cancel() { Ran::Yes } else { Ran::No };
        self.send(Err(WireError::new(Code::Cancelled, ran, text)));
    }
}

#[cfg(test)]
#[allow(clippy::unnecessary_wraps)] // Handlers have one signature, whether they can fail or not.
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

    /// Makes a call of no function in particular, from `peer`.
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
    fn call_that_has_ended_was_not_cancelled() {
        let call = admitted_call("", 1);
        let context = call.invocation.context().clone();
        let Completion::Ended { ticket, result } = call.run(nothing) else { panic!("it ended") };
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
            panic!("it is over")
        };
        assert_eq!((error.code, error.ran), (Code::DeadlineExceeded, Ran::No));
    }

    #[test]
    fn late_return_is_no_result() {
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
