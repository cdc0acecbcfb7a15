//! The bounds that the types of a remote function must meet, each with its own compile error.

#![allow(missing_docs)] // For generated code; see `private.rs`.

use std::{fmt, marker::PhantomData, path::Path};

use futures_core::Stream;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The bound of an owned parameter. Generated code asserts it with the source location of the
/// parameter's type, so that the compile error points there.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a remote function",
    label = "does not travel",
    note = "a parameter is written by its caller and read by the server: derive `serde::Serialize` and \
            `serde::Deserialize` for its type; if the server provides it, mark it `#[state]` or `#[context]`",
    note = "a stream that the caller passes is written as `Incoming<T>`"
)]
pub trait IsParam: Serialize {}
impl<T: Serialize + DeserializeOwned> IsParam for T {}
// A `&Path` is borrowed from the request.
impl IsParam for Path {}

/// The bound of a function's result.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a remote function",
    label = "does not travel",
    note = "a result is written by the server and read by its caller: derive `serde::Serialize` and \
            `serde::Deserialize` for its type; it must be `Send` and own what it holds",
    note = "a stream is written as `impl Iterator<Item = T> + Send`, or in an async function as \
            `impl Stream<Item = T> + Send`"
)]
pub trait IsOutput: Serialize + DeserializeOwned + Send + 'static {}
impl<T: Serialize + DeserializeOwned + Send + 'static> IsOutput for T {}

/// The bound of an item of a stream, which a function returns or takes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an item of a stream",
    label = "does not travel",
    note = "an item is written on one side and read on the other: derive `serde::Serialize` and \
            `serde::Deserialize` for its type; it must be `Send` and own what it holds"
)]
pub trait IsItem: Serialize + DeserializeOwned + Send + 'static {}
impl<T: Serialize + DeserializeOwned + Send + 'static> IsItem for T {}

/// The bound of a function's own error type `E`, so that [`CallError<E>`](crate::CallError) is the
/// error type of its calls.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a remote function",
    label = "does not travel",
    note = "an error is written by the server and shown by its caller: it needs `serde::Serialize`, \
            `serde::Deserialize`, `Debug`, `Display` and `Send`; `String` has them all: \
            `.map_err(|error| format!(\"{{error:#}}\"))`"
)]
pub trait IsError:
    Serialize + DeserializeOwned + fmt::Debug + fmt::Display + Send + 'static
{
}
// Makes the compiler show the message above, instead of the first of the five traits that is
// missing.
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + fmt::Debug + fmt::Display + Send + 'static> IsError for T {}

/// The bound of the type of a `#[state]` parameter.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the state of a remote function",
    label = "not shareable",
    note = "state is shared by all workers: it must be `Send`, `Sync` and own what it holds"
)]
pub trait IsState: Send + Sync + 'static {}
impl<T: Send + Sync + 'static> IsState for T {}

/// The bound of a stream that a call passes as an argument.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no stream of `{T}` that a call can pass",
    label = "not such a stream",
    note = "`futures_util::stream::iter(...)` makes a stream of whatever can be iterated, and \
            `tokio_stream::wrappers::ReceiverStream::new(...)` one of a channel; a stream must be \
            `Send` and own what it holds"
)]
pub trait PassedStream<T>: Stream<Item = T> + Send + 'static {}
// Makes the compiler show the message above, instead of the part that is missing.
#[diagnostic::do_not_recommend]
impl<T, S: Stream<Item = T> + Send + 'static> PassedStream<T> for S {}

/// Nothing implements it, so that its message is shown where a stream is mapped.
#[diagnostic::on_unimplemented(
    message = "a function that returns a stream has no `map`",
    label = "one call for each input, each with many items, has no order",
    note = "call it for each input, and join the streams as you need them: \
            `futures_util::stream::iter(inputs).flat_map(|input| f::call(&client, input))`"
)]
pub trait NoMap {}

/// Nothing implements it, so that its message is shown where a stream is notified.
#[diagnostic::on_unimplemented(
    message = "a function that returns a stream has no `notify`",
    label = "nobody would take its items",
    note = "call it, and take the items; or write a function without a result"
)]
pub trait NoNotify {}

/// Nothing implements it, so that its message is shown where a function that takes a stream is
/// mapped.
#[diagnostic::on_unimplemented(
    message = "a function that takes a stream has no `map`",
    label = "each call would need a stream of its own",
    note = "call it for each input, and join the calls as you need them"
)]
pub trait NoMapOfStreams {}

/// Nothing implements it, so that its message is shown where a function that takes a stream is
/// notified.
#[diagnostic::on_unimplemented(
    message = "a function that takes a stream has no `notify`",
    label = "the items are sent as the function takes them, so that it must be waited for",
    note = "call it, in a task of its own if need be"
)]
pub trait NoNotifyOfStreams {}

pub fn assert_param<T: IsParam + ?Sized>() {}
pub fn assert_borrowed_param<'de, T: Serialize + Deserialize<'de>>() {}
pub fn assert_item<T: IsItem>() {}
pub fn assert_output<T: IsOutput>() {}
pub fn assert_state<T: IsState>() {}

/// Recognizes a `Result` behind an alias. For a `Result`, Rust prefers the inherent constant
/// `IS_RESULT`. For any other type only the constant of [`IsNoResult`] exists.
pub struct Check<T>(PhantomData<T>);
impl<T, E> Check<Result<T, E>> {
    pub const IS_RESULT: bool = true;
}
pub trait IsNoResult {
    const IS_RESULT: bool = false;
}
impl<T> IsNoResult for Check<T> {}
