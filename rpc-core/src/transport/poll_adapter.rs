//! Polls an object whose methods are async, as the traits of the seam require.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// An object that is either idle, or lent to the future of one of its methods, which gives it back.
pub(super) enum PollAdapter<P, T> {
    Idle(P),
    Busy(Pin<Box<dyn Future<Output = (P, T)> + Send>>),
    /// Between the two, and after a panic of the future.
    Taken,
}

impl<P, T> PollAdapter<P, T> {
    /// Returns the object, unless it is lent to a future.
    pub(super) fn idle(&mut self) -> Option<&mut P> {
        match self {
            Self::Idle(object) => Some(object),
            _ => None,
        }
    }

    /// Polls the pending future, or begins one.
    pub(super) fn poll<F>(&mut self, begin: impl FnOnce(P) -> F, cx: &mut Context<'_>) -> Poll<T>
    where
        F: Future<Output = (P, T)> + Send + 'static,
    {
        let mut future = match std::mem::replace(self, Self::Taken) {
            Self::Idle(object) => {
                Box::pin(begin(object)) as Pin<Box<dyn Future<Output = (P, T)> + Send>>
            }
            Self::Busy(future) => future,
            Self::Taken => unreachable!("an object whose future has panicked is not polled again"),
        };
        let polled = future.as_mut().poll(cx);
        match polled {
            Poll::Ready((object, output)) => {
                *self = Self::Idle(object);
                Poll::Ready(output)
            }
            Poll::Pending => {
                *self = Self::Busy(future);
                Poll::Pending
            }
        }
    }
}
