//! Catching panics of user code. The payload of a panic is user code as well: its `Drop` may panic
//! again.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

/// The number of payloads that are dropped, one after the other. A payload whose drop panics
/// replaces itself by the next one. The last one is leaked.
const MAX_PAYLOADS: usize = 8;

/// Runs user code.
///
/// # Errors
/// Returns the text of the panic if it panics.
pub(crate) fn catch<T>(user_code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(user_code)).map_err(|payload| {
        let text = text(&*payload).to_owned();
        discard(payload);
        text
    })
}

/// Runs a future of user code.
///
/// # Errors
/// Returns the text of the panic if it panics.
pub(crate) async fn catch_async<F: Future>(user_code: F) -> Result<F::Output, String> {
    let mut user_code = pin!(user_code);
    poll_fn(|cx| match catch(|| user_code.as_mut().poll(cx)) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is no text")
}

fn discard(mut payload: Box<dyn Any + Send>) {
    for _ in 0..MAX_PAYLOADS {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    std::mem::forget(payload);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A payload that panics when it is dropped.
    pub(crate) struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Self);
        }
    }

    #[test]
    fn text_of_a_panic_is_returned() {
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(catch(|| panic!("no luck")), Err::<(), _>("no luck".to_owned()));
        assert_eq!(catch(|| panic!("no luck: {}", 13)), Err::<(), _>("no luck: 13".to_owned()));
        let other = catch(|| std::panic::panic_any(7));
        assert_eq!(other, Err::<(), _>("a value that is no text".to_owned()));
    }

    #[test]
    fn payload_that_panics_when_dropped_is_caught() {
        catch(|| std::panic::panic_any(Bomb)).unwrap_err();
    }
}
