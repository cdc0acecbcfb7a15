use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::FutureExt;

use super::*;
use crate::{
    peer::PeerId,
    server::{admission::Admission, registry::tests::function},
    usage::Usage,
    util::panics::tests::Bomb,
};

/// Makes an admitted call from `peer`, for tests that do not care about the function.
pub(crate) fn admitted_call(peer: &'static str, ticket: u32) -> AdmittedCall {
    let permit = Admission::new(1, 0, 0).admit(Usage::default(), 0).unwrap();
    let peer = PeerId::unverified(Bytes::from_static(peer.as_bytes()));
    let invocation = invocation(Context::new(peer, "f", None));
    AdmittedCall { invocation, ticket: Ticket(ticket), permit, facts: None }
}

pub(crate) fn nothing(_: &Invocation) -> HandlerResult {
    Ok(Bytes::new())
}

fn invocation(context: Context) -> Invocation {
    let body = Bytes::from_static(b"\x90");
    Invocation { function: function(), body, params_at: 0, id: None, context, arrivals: None }
}

fn context(deadline: Option<Instant>) -> Context {
    Context::new(PeerId::default(), "f", deadline)
}

fn run_discarding(function: SyncFn, invocation: &Invocation) -> HandlerResult {
    run_sync(function, invocation, None, Instant::now(), Late::Discarded)
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
    // The panic goes no further: whoever drops it may not be able to bear one.
    drop(running);
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
    let error = run_inline(bomb, &invocation(context(None)), None, Instant::now()).unwrap_err();
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
    let error = run_inline(fails, &invocation(context(None)), None, Instant::now()).unwrap_err();
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
    let error = run_inline(starts, &expired(), None, Instant::now()).unwrap_err();
    assert_eq!((error.code, error.ran), (Code::DeadlineExceeded, Ran::No));
    let error = run_discarding(starts, &expired()).unwrap_err();
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
    let error = run_discarding(overruns, &invocation(context)).unwrap_err();
    assert_eq!((error.code, error.ran), (Code::DeadlineExceeded, Ran::Yes));
}

#[test]
fn cancelled_call_does_not_start() {
    fn starts(_: &Invocation) -> HandlerResult {
        unreachable!("it was cancelled")
    }
    let invocation = invocation(context(None));
    invocation.context.cancel();
    assert_eq!(run_inline(starts, &invocation, None, Instant::now()).unwrap_err().ran, Ran::No);
}
