//! Bounds how much a task does before the other tasks of its runtime run.

use std::{future::poll_fn, task::Poll};

use tokio::task;

/// The amount of work that a task has done since it last yielded.
#[derive(Debug, Default)]
pub(crate) struct YieldBudget {
    messages: usize,
    bytes: usize,
}

impl YieldBudget {
    /// The messages that a task receives or sends before it yields. The messages of one body are
    /// handled together, so that it may be exceeded by a batch.
    const MESSAGES: usize = 256;
    /// The bytes. A task that yields so often finds the memory of the previous messages free, and in
    /// the cache: with messages of 1 MiB that is twice as fast as to take all that is there.
    const BYTES: usize = 64 * 1024;

    pub(crate) fn add(&mut self, messages: usize, bytes: usize) {
        self.messages += messages;
        self.bytes += bytes;
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.messages >= Self::MESSAGES || self.bytes >= Self::BYTES
    }

    /// Lets every task of this runtime run that is ready, and begins a new budget.
    ///
    /// The runtime polls its sockets meanwhile only if many bytes were moved, because that is a system
    /// call.
    pub(crate) async fn yield_now(&mut self) {
        let Self { bytes, .. } = std::mem::take(self);
        if bytes >= Self::BYTES {
            return task::yield_now().await;
        }
        let mut yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn budget_is_spent_by_messages_or_bytes() {
        let mut budget = YieldBudget::default();
        for _ in 0..YieldBudget::MESSAGES {
            assert!(!budget.is_spent());
            budget.add(1, 1);
        }
        assert!(budget.is_spent());
        budget.yield_now().await;
        assert!(!budget.is_spent());
        budget.add(1, YieldBudget::BYTES);
        assert!(budget.is_spent());
    }

    #[tokio::test]
    async fn yielding_lets_other_tasks_run() {
        let other = tokio::spawn(async {});
        YieldBudget::default().yield_now().await;
        assert!(other.is_finished());
    }
}
