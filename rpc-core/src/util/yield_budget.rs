//! A bound on the work that a task does before the other tasks of its runtime run.

use std::{future::poll_fn, task::Poll};

use tokio::task;

/// The amount of work that a task has done since it last yielded.
#[derive(Debug, Default)]
pub(crate) struct YieldBudget {
    messages: usize,
    bytes: usize,
}

impl YieldBudget {
    /// The number of messages that a task receives or sends before it yields. The messages of a
    /// batch are handled together, and may exceed it.
    const MESSAGES: usize = 256;
    /// The number of bytes that a task receives or sends before it yields. The memory of the
    /// previous messages is then free again, and still in the cache. With messages of 1 MiB this is
    /// twice as fast as handling all messages that are ready.
    const BYTES: usize = 64 * 1024;

    pub(crate) fn add(&mut self, messages: usize, bytes: usize) {
        self.messages += messages;
        self.bytes += bytes;
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.messages >= Self::MESSAGES || self.bytes >= Self::BYTES
    }

    /// Lets all other tasks of this runtime run that are ready, and begins a new budget.
    ///
    /// If the bytes are spent, the runtime also polls its sockets meanwhile. After few bytes it
    /// does not, because that is a system call.
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
