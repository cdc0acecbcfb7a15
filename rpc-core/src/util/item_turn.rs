//! Turns of tasks that take or make items of streams.

use std::task::{Context, Poll};

/// The number of items after which a task lets others run.
const ITEMS: u32 = 512;

/// The turn of a task. A stream that always has another item would otherwise never let others run.
#[derive(Debug, Default)]
pub(crate) struct ItemTurn(u32);

impl ItemTurn {
    /// Counts an item. Returns `Pending` if the task has had enough of them, and wakes it for its
    /// next turn.
    #[inline]
    pub(crate) fn poll_item(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.0 += 1;
        if self.0 <= ITEMS {
            return Poll::Ready(());
        }
        self.0 = 0;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
