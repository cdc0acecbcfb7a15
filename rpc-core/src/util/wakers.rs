//! The wakers of the tasks that a state machine wants to wake.
//!
//! The state machines of this crate are changed under a lock, and a waker may run any code. So they
//! add wakers to a list, and the owner of the lock calls them once it has released the lock.

use std::task::Waker;

use crate::util::panics;

/// A list of wakers. It allocates only for its third element, because most changes wake one task or
/// two.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    first: [Option<Waker>; 2],
    rest: Vec<Waker>,
}

impl Wakers {
    pub(crate) fn push(&mut self, waker: Waker) {
        match &mut self.first {
            [free @ None, _] | [_, free @ None] => *free = Some(waker),
            _ => self.rest.push(waker),
        }
    }

    /// Wakes all tasks, in the order in which they were added. The list is empty afterwards, and
    /// keeps its memory.
    pub(crate) fn wake(&mut self) {
        let Self { first, rest } = self;
        if first.iter().all(Option::is_none) {
            return;
        }
        rest.reverse();
        let mut wake_all = || {
            first.iter_mut().filter_map(Option::take).for_each(Waker::wake);
            while let Some(waker) = rest.pop() {
                waker.wake();
            }
        };
        // A waker is foreign code, and its panic must not end the thread that wakes it. The others
        // are still in the list.
        while let Err(panic) = panics::catch(&mut wake_all) {
            tracing::error!(panic, "the waker of a caller panicked");
        }
    }
}

#[cfg(test)]
impl Wakers {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.iter().all(Option::is_none) && self.rest.is_empty()
    }
}

impl Extend<Waker> for Wakers {
    fn extend<T: IntoIterator<Item = Waker>>(&mut self, wakers: T) {
        wakers.into_iter().for_each(|waker| self.push(waker));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    #[test]
    fn waker_that_panics_does_not_stop_the_others() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("no luck");
            }
        }
        let counter = Arc::new(Counter::default());
        let mut wakers = Wakers::default();
        wakers.push(Waker::from(Arc::new(Panics)));
        wakers.push(Waker::from(Arc::clone(&counter)));
        wakers.wake();
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
    }

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn every_waker_is_woken_once() {
        let counter = Arc::new(Counter::default());
        let mut wakers = Wakers::default();
        wakers.push(Waker::from(Arc::clone(&counter)));
        wakers.extend((0..4).map(|_| Waker::from(Arc::clone(&counter))));
        assert_eq!(wakers.rest.len(), 3);
        wakers.wake();
        assert_eq!(counter.0.load(Ordering::Relaxed), 5);
    }
}
