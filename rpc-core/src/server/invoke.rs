//! The invocation of functions. Every function that the server runs begins and ends here, on
//! whichever thread it runs: the place for hooks and statistics.
//!
//! A function begins in [`begin`], which refuses a call that was cancelled or whose deadline has
//! passed. Whatever has begun ends in [`end`], also by a panic, or because its future was dropped.

use std::{
    future::Future,
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use tracing::{Span, level_filters::LevelFilter};

use crate::{
    context::Context,
    error::Ran,
    handler::{HandlerFuture, HandlerResult, Invocation},
    protocol::error::{Code, WireError},
    server::{
        admission::Permit,
        completion::{Completion, CompletionQueue, Ticket},
    },
    util::panics,
};

pub(crate) type SyncFn = fn(&Invocation) -> HandlerResult;
pub(crate) type AsyncFn = fn(Invocation) -> HandlerFuture;

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
        let result = run_sync(function, &invocation, Instant::now(), Late::Discarded);
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
        let guard = CompletionGuard { context, permit: Some(permit), ticket, queue };
        AsyncCall { future: Some(function(invocation)), started: false, span: None, guard }
    }
}

/// Runs an inline function on this thread. It runs for microseconds, so its result counts even if
/// it returns after the deadline.
pub(crate) fn run_inline(function: SyncFn, invocation: &Invocation, now: Instant) -> HandlerResult {
    run_sync(function, invocation, now, Late::Accepted)
}

fn run_sync(function: SyncFn, invocation: &Invocation, now: Instant, late: Late) -> HandlerResult {
    let context = invocation.context();
    begin(context, now)?;
    let _span = span(context).map(Span::entered);
    let returned = panics::catch(|| context.run(|| function(invocation)));
    end(context, returned.map_or_else(End::Panicked, End::Returned), late)
}

/// Makes the span of a call, in which the logs of the function nest. `None` if nobody wants it, which
/// takes fewer instructions than a span that is switched off.
fn span(context: &Context) -> Option<Span> {
    (LevelFilter::current() >= LevelFilter::INFO)
        .then(|| tracing::info_span!("call", function = context.function()))
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
    span: Option<Span>,
    guard: CompletionGuard,
}

impl AsyncCall {
    fn poll_result(&mut self, cx: &mut TaskContext<'_>) -> Poll<HandlerResult> {
        let Self { future, started, span, guard: CompletionGuard { context, .. } } = self;
        if !*started {
            if let Err(error) = begin(context, Instant::now()) {
                return Poll::Ready(Err(error));
            }
            *started = true;
            *span = self::span(context);
        }
        let _span = span.as_ref().map(Span::enter);
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

/// Sends exactly one completion for an async function, whose future may be dropped at any time.
struct CompletionGuard {
    context: Context,
    /// `None` once the completion was sent.
    permit: Option<Permit>,
    ticket: Ticket,
    queue: CompletionQueue,
}

impl CompletionGuard {
    fn complete(&mut self, result: HandlerResult) {
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
pub(crate) mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::*;
    use crate::{
        peer::PeerId,
        server::{
            admission::{Admission, Usage},
            registry::tests::function,
        },
        util::panics::tests::Bomb,
    };

    /// Makes an admitted call from `peer`, for tests that do not care about the function.
    pub(crate) fn admitted_call(peer: &'static str, ticket: u32) -> AdmittedCall {
        let permit = Admission::new(1, 0, 0).admit(Usage::default(), 0).unwrap();
        let peer = PeerId::unverified(Bytes::from_static(peer.as_bytes()));
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

    /// Takes the only completion, and returns its result.
    fn completed(queue: &CompletionQueue) -> HandlerResult {
        let mut completions = VecDeque::new();
        assert!(queue.try_recv(&mut completions));
        let Some(Completion::Ended { result, .. }) = completions.pop_front() else {
            panic!("it has ended")
        };
        assert!(completions.is_empty(), "there is one completion");
        result
    }

    #[test]
    fn dropped_async_function_is_completed_once() {
        fn never(_: Invocation) -> HandlerFuture {
            Box::pin(std::future::pending())
        }
        for (polls, ran) in [(0, Ran::No), (1, Ran::Yes)] {
            let queue = CompletionQueue::default();
            let call = admitted_call("", 1);
            let context = call.invocation.context().clone();
            let mut running = Box::pin(call.run_async(never, queue.clone()));
            for _ in 0..polls {
                assert!((&mut running).now_or_never().is_none());
            }
            drop(running);
            let error = completed(&queue).unwrap_err();
            assert_eq!((error.code, error.ran), (Code::Cancelled, ran));
            assert!(context.is_cancelled());
        }
    }

    #[test]
    fn panicking_drop_does_not_lose_the_completion() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("a drop that panics");
            }
        }
        fn never(_: Invocation) -> HandlerFuture {
            Box::pin(async {
                let _bomb = Bomb;
                std::future::pending().await
            })
        }
        let queue = CompletionQueue::default();
        let mut running = Box::pin(admitted_call("", 1).run_async(never, queue.clone()));
        assert!((&mut running).now_or_never().is_none());
        panics::catch(|| drop(running)).unwrap_err();
        assert_eq!(completed(&queue).unwrap_err().ran, Ran::Yes);
    }

    #[test]
    fn panics_of_dropped_values_are_caught() {
        fn bomb(_: &Invocation) -> HandlerResult {
            std::panic::panic_any(Bomb)
        }
        fn holds_a_bomb(_: Invocation) -> HandlerFuture {
            struct Holding(Bomb);
            impl Future for Holding {
                type Output = HandlerResult;
                fn poll(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<HandlerResult> {
                    Poll::Ready(Ok(Bytes::new()))
                }
            }
            Box::pin(Holding(Bomb))
        }
        let error = run_inline(bomb, &invocation(context(None)), Instant::now()).unwrap_err();
        assert_eq!((error.code, error.ran), (Code::Panicked, Ran::Yes));
        let queue = CompletionQueue::default();
        admitted_call("", 1).run_async(holds_a_bomb, queue.clone()).now_or_never().unwrap();
        let error = completed(&queue).unwrap_err();
        assert_eq!((error.code, error.ran), (Code::Panicked, Ran::Yes));
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
        let error = run_sync(starts, &expired(), Instant::now(), Late::Discarded).unwrap_err();
        assert_eq!((error.code, error.ran), (Code::DeadlineExceeded, Ran::No));
        let mut call = admitted_call("", 1);
        call.invocation = expired();
        let queue = CompletionQueue::default();
        let running = call.run_async(starts_async, queue.clone());
        running.now_or_never().expect("it is over");
        let error = completed(&queue).unwrap_err();
        assert_eq!((error.code, error.ran), (Code::DeadlineExceeded, Ran::No));
    }

    #[test]
    fn result_after_the_deadline_is_discarded() {
        fn overruns(invocation: &Invocation) -> HandlerResult {
            while invocation.context().remaining() != Some(Duration::ZERO) {}
            Ok(Bytes::new())
        }
        let context = context(Some(Instant::now() + Duration::from_millis(20)));
        let error =
            run_sync(overruns, &invocation(context), Instant::now(), Late::Discarded).unwrap_err();
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
