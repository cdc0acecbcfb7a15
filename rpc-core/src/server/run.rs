//! Running functions: on the pool, on the runtime, or right here. A panic becomes an outcome like
//! any other.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{runtime::Handle, task::AbortHandle};

use crate::{
    context::Context,
    error::{Code, Ran, WireError},
    function::{HandlerFuture, HandlerResult},
    invocation::Invocation,
    server::{
        admission::Permit,
        outbox::{Announcer, Outbox},
        pool::{JobId, Pool},
    },
};

/// Identifies a request among those that a listener has in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u32);

/// How a function ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) ticket: Ticket,
    pub(crate) result: HandlerResult,
}

/// What a listener's loop is told.
#[derive(Debug)]
pub(crate) enum News {
    Outcome(Outcome),
    /// Nobody waits any more for a function that runs for many.
    Unwanted(Ticket),
}

/// What admission has let in, on its way to where it runs.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) invocation: Invocation,
    pub(crate) ticket: Ticket,
    pub(crate) permit: Permit,
}

/// What is running, as far as it can be stopped.
#[derive(Debug)]
pub(crate) enum Running {
    /// A sync function, which can be taken back as long as it waits.
    Job(JobId),
    /// An async function, which can be dropped.
    Task(AbortHandle),
}

type SyncFn = fn(&Invocation) -> HandlerResult;
type AsyncFn = fn(Invocation) -> HandlerFuture;

/// Starts and stops functions. Dispatch knows no more of threads than this.
pub(crate) trait Run {
    /// Has a worker run a sync function, which perhaps does not begin before
    /// [`begin`](Self::begin). `Err` if too many wait.
    fn run_sync(&mut self, function: SyncFn, work: Admitted) -> Result<Running, ()>;
    /// Has the runtime run an async function.
    fn run_async(&mut self, function: AsyncFn, work: Admitted) -> Running;
    /// Lets workers begin what was given to them.
    fn begin(&mut self);
    /// Where outcomes go.
    fn outbox(&self) -> &Outbox;
    /// Stops what can be stopped: a sync function that waits is taken back, an async one is
    /// dropped. There may be an outcome all the same.
    fn stop(&mut self, running: &Running);
}

/// How many jobs wait for [`Run::begin`] at most, so that the first does not wait for long.
const AT_ONCE: usize = 32;

/// Runs functions for real.
#[derive(Debug)]
pub(crate) struct Runner {
    pool: Arc<Pool>,
    runtime: Handle,
    outbox: Outbox,
    /// How many jobs workers were given that they were not woken for.
    submitted: usize,
}

impl Runner {
    pub(crate) fn new(pool: Arc<Pool>, runtime: Handle, outbox: Outbox) -> Self {
        Self { pool, runtime, outbox, submitted: 0 }
    }
}

impl Run for Runner {
    fn run_sync(&mut self, function: SyncFn, work: Admitted) -> Result<Running, ()> {
        let job = Job { function, work, outbox: self.outbox.clone() };
        let job = self.pool.submit(job).map(Running::Job).map_err(drop);
        self.submitted += 1;
        if self.submitted == AT_ONCE {
            self.begin();
        }
        job
    }

    fn begin(&mut self) {
        if std::mem::take(&mut self.submitted) > 0 {
            self.pool.wake();
        }
    }

    fn run_async(&mut self, function: AsyncFn, work: Admitted) -> Running {
        let Admitted { invocation, ticket, permit } = work;
        let context = invocation.context().clone();
        let outbox = self.outbox.clone();
        let promise = Promise { ticket, permit: Some(permit), context: context.clone(), outbox };
        let guarded = Guarded { context, started: false, future: function(invocation) };
        let task = self.runtime.spawn(async move {
            let result = guarded.await;
            promise.keep(result);
        });
        Running::Task(task.abort_handle())
    }

    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn stop(&mut self, running: &Running) {
        match running {
            Running::Job(job) => drop(self.pool.withdraw(job)),
            Running::Task(task) => task.abort(),
        }
    }
}

/// That there will be one outcome, whatever becomes of an async function: its future can be
/// dropped.
struct Promise {
    ticket: Ticket,
    /// Until the promise is kept.
    permit: Option<Permit>,
    context: Context,
    outbox: Outbox,
}

impl Promise {
    fn keep(mut self, result: HandlerResult) {
        // First, as after a sync function.
        self.permit = None;
        self.send(result);
    }

    fn send(&self, result: HandlerResult) {
        self.outbox.send(News::Outcome(Outcome { ticket: self.ticket, result }));
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        // Kept already?
        if self.permit.take().is_none() {
            return;
        }
        // The function was dropped before it ended: it was cancelled, or its runtime has gone.
        let text = "the function was dropped before it ended, because its runtime has gone";
        let ran = if self.context.cancel() { Ran::Yes } else { Ran::No };
        self.send(Err(WireError::new(Code::Cancelled, ran, text)));
    }
}

/// A sync function on its way to a worker.
#[derive(Debug)]
pub(crate) struct Job {
    function: SyncFn,
    work: Admitted,
    outbox: Outbox,
}

impl Job {
    /// Whoever sent it.
    pub(crate) fn peer(&self) -> &Bytes {
        self.work.invocation.context().peer_bytes()
    }

    #[cfg(test)]
    pub(crate) fn ticket(&self) -> Ticket {
        self.work.ticket
    }

    pub(crate) fn run(self, announcer: &mut Announcer) {
        let Admitted { invocation, ticket, permit } = self.work;
        let result = run_here(self.function, &invocation, Instant::now());
        let result = in_time(invocation.context(), result);
        // Before the outcome is sent, so that whoever has seen the reply finds the place free.
        drop(permit);
        announcer.send(&self.outbox, News::Outcome(Outcome { ticket, result }));
    }
}

/// Runs a sync function in this thread.
pub(crate) fn run_here(function: SyncFn, invocation: &Invocation, now: Instant) -> HandlerResult {
    let context = invocation.context();
    if !context.start(now) {
        return Err(never_started());
    }
    let run = || context.scope(|| function(invocation));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panicked(context, &*panic)))
}

/// What a function returns once its time is up is no result: it may have returned early because of
/// that. (An inline one has no time to notice.)
fn in_time(context: &Context, result: HandlerResult) -> HandlerResult {
    let returned = match &result {
        Ok(_) => true,
        // It may not even have started.
        Err(error) => error.ran == Ran::Yes && error.code != Code::Panicked,
    };
    if !returned || context.remaining() != Some(Duration::ZERO) {
        return result;
    }
    Err(WireError::new(Code::DeadlineExceeded, Ran::Yes, "the time ran out while the function ran"))
}

/// The outcome of what was over before it began. Its caller has been answered, or is about to be.
fn never_started() -> WireError {
    WireError::new(Code::DeadlineExceeded, Ran::No, "the time ran out before the function started")
}

/// The future of an async function: calls made in it inherit its deadline, and a panic ends it with
/// an error.
struct Guarded {
    context: Context,
    started: bool,
    future: HandlerFuture,
}

impl Future for Guarded {
    type Output = HandlerResult;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<HandlerResult> {
        let Self { context, started, future } = self.get_mut();
        if !*started && !context.start(Instant::now()) {
            return Poll::Ready(Err(never_started()));
        }
        *started = true;
        let poll = || context.scope(|| future.as_mut().poll(cx));
        // After a panic the future is not polled again.
        catch_unwind(AssertUnwindSafe(poll))
            .unwrap_or_else(|panic| Poll::Ready(Err(panicked(context, &*panic))))
            .map(|result| in_time(context, result))
    }
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

#[cfg(test)]
#[allow(clippy::unnecessary_wraps)] // Handlers have one signature, whether they can fail or not.
pub(crate) mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::{
        registry::tests::function,
        server::admission::{Admission, Held},
    };

    impl News {
        /// The ticket of an outcome.
        pub(crate) fn ticket(&self) -> u32 {
            let Self::Outcome(outcome) = self else { panic!("no outcome: {self:?}") };
            outcome.ticket.0
        }
    }

    /// A job that does nothing.
    pub(crate) fn job(ticket: u32, outbox: &Outbox) -> Job {
        job_of("", ticket, outbox)
    }

    pub(crate) fn job_of(peer: &'static str, ticket: u32, outbox: &Outbox) -> Job {
        fn nothing(_: &Invocation) -> HandlerResult {
            Ok(Bytes::new())
        }
        let permit = Admission::new(1, 0, 0).admit(Held::default(), 0, Instant::now()).unwrap();
        let context = Context::new(Bytes::from_static(peer.as_bytes()), "f", None);
        let work = Admitted {
            invocation: Invocation { context, ..invocation() },
            ticket: Ticket(ticket),
            permit,
        };
        Job { function: nothing, work, outbox: outbox.clone() }
    }

    fn invocation() -> Invocation {
        Invocation {
            function: function(),
            body: Bytes::from_static(b"\x90"),
            params_at: 0,
            id: None,
            context: Context::new(Bytes::new(), "f", None),
        }
    }

    #[test]
    fn a_panic_is_an_outcome_with_its_text() {
        fn fails(_: &Invocation) -> HandlerResult {
            panic!("no luck: {}", 13)
        }
        let error = run_here(fails, &invocation(), Instant::now()).unwrap_err();
        assert_eq!((error.code, error.ran), (Code::Panicked, Ran::Yes));
        assert_eq!(error.message, "the function panicked: no luck: 13");
    }

    #[test]
    fn a_call_that_has_ended_was_not_cancelled() {
        let outbox = Outbox::default();
        let job = job(1, &outbox);
        let context = job.work.invocation.context().clone();
        job.run(&mut Announcer::default());
        let mut news = VecDeque::new();
        outbox.take(&mut news);
        assert!(matches!(news.pop_front(), Some(News::Outcome(Outcome { result: Ok(_), .. }))));
        assert!(news.is_empty(), "one outcome");
        assert!(!context.is_cancelled());
    }

    #[test]
    fn what_has_expired_before_it_started_does_not_start() {
        fn starts(_: &Invocation) -> HandlerResult {
            unreachable!("its time has run out")
        }
        fn starts_async(_: Invocation) -> HandlerFuture {
            Box::pin(async { unreachable!("its time has run out") })
        }
        let context = Context::new(Bytes::new(), "f", Some(Instant::now()));
        let expired = || Invocation { context: context.clone(), ..invocation() };
        let error = run_here(starts, &expired(), Instant::now()).unwrap_err();
        assert_eq!((error.code, error.ran), (Code::DeadlineExceeded, Ran::No));
        let future = starts_async(expired());
        let mut guarded = Guarded { context: context.clone(), started: false, future };
        let mut cx = TaskContext::from_waker(std::task::Waker::noop());
        let Poll::Ready(Err(error)) = Pin::new(&mut guarded).poll(&mut cx) else {
            panic!("it is over")
        };
        assert_eq!((error.code, error.ran), (Code::DeadlineExceeded, Ran::No));
    }

    #[test]
    fn what_a_function_returns_after_its_time_is_no_result() {
        fn overruns(invocation: &Invocation) -> HandlerResult {
            while invocation.context().remaining() != Some(Duration::ZERO) {}
            Ok(Bytes::new())
        }
        let deadline = Some(Instant::now() + Duration::from_millis(20));
        let invocation =
            Invocation { context: Context::new(Bytes::new(), "f", deadline), ..invocation() };
        let result = run_here(overruns, &invocation, Instant::now());
        let error = in_time(invocation.context(), result).unwrap_err();
        assert_eq!((error.code, error.ran), (Code::DeadlineExceeded, Ran::Yes));
    }

    #[test]
    fn a_job_whose_time_is_up_before_it_starts_never_ran() {
        let outbox = Outbox::default();
        let mut job = job(1, &outbox);
        job.work.invocation.context = Context::new(Bytes::new(), "f", Some(Instant::now()));
        job.run(&mut Announcer::default());
        let mut news = VecDeque::new();
        outbox.take(&mut news);
        let Some(News::Outcome(outcome)) = news.pop_front() else { panic!("an outcome") };
        let error = outcome.result.unwrap_err();
        assert_eq!((error.code, error.ran), (Code::DeadlineExceeded, Ran::No));
    }

    #[test]
    fn what_was_cancelled_before_it_started_does_not_start() {
        fn starts(_: &Invocation) -> HandlerResult {
            unreachable!("it was cancelled")
        }
        let invocation = invocation();
        invocation.context.cancel();
        assert_eq!(run_here(starts, &invocation, Instant::now()).unwrap_err().ran, Ran::No);
    }
}
