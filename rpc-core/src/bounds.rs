//! The bounds that the types of a remote function must meet, each with its own compile error.

#![allow(missing_docs)] // For generated code; see `private.rs`.

use std::{fmt, marker::PhantomData, path::Path};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The bound of an owned parameter. Generated code asserts it with the source location of the
/// parameter's type, so that the compile error points there.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a remote function",
    label = "does not travel",
    note = "a parameter is written by its caller and read by the server: derive `serde::Serialize` and \
            `serde::Deserialize` for its type; if the server provides it, mark it `#[state]` or `#[context]`"
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
            `serde::Deserialize` for its type; it must be `Send` and own what it holds"
)]
pub trait IsOutput: Serialize + DeserializeOwned + Send + 'static {}
impl<T: Serialize + DeserializeOwned + Send + 'static> IsOutput for T {}

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

pub fn assert_param<T: IsParam + ?Sized>() {}
pub fn assert_borrowed_param<'de, T: Serialize + Deserialize<'de>>() {}
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
