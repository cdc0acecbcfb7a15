//! An adapter that polls an object with async methods, as the traits of `transport.rs` require.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// An object that is either idle, or owned by the future of one of its methods. The future returns
/// the object together with its output.
pub(super) enum PollAdapter<P, T> {
    Idle(P),
    Busy(Pin<Box<dyn Future<Output = (P, T)> + Send>>),
    /// The state during a poll, and after a panic of the future.
    Taken,
}

impl<P, T> PollAdapter<P, T> {
    /// Returns the object. `None` while a future owns it.
    pub(super) fn idle(&mut self) -> Option<&mut P> {
        match self {
            Self::Idle(object) => Some(object),
            _ => None,
        }
    }

    /// Polls the pending future. If there is none, makes one with `begin` and polls that.
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
