//! The only paths that generated code may name. Not public API: anything here may change at any
//! time.

use std::fmt;

pub use inventory;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use crate::{
    args::Args,
    client::{Call, Client, Map, Notify},
    codec::{DecodeError, Reader, Writer},
    context::Context,
    error::{CallError, RpcError},
    function::{
        Entry, Handler, HandlerFuture, HandlerResult, Kind, Param, RemoteFn, ResultParts, ServedFn,
        Signature, StateType,
    },
    invocation::Invocation,
    value::{
        DecodeBySerde, DecodeSliceBySerde, EncodeBySerde, FailBySerde, Refused, RefusedSlice, Value,
    },
};

/// What an owned parameter must be. Checked under the parameter's type, so that the error points
/// there.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a remote function",
    label = "does not travel",
    note = "a parameter is written by its caller and read by the server: derive `serde::Serialize` and \
            `serde::Deserialize` for its type; if the server provides it, mark it `#[state]` or `#[context]`"
)]
pub trait IsParam: Serialize + DeserializeOwned {}
impl<T: Serialize + DeserializeOwned> IsParam for T {}

/// What a result must be.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a remote function",
    label = "does not travel",
    note = "a result is written by the server and read by its caller: derive `serde::Serialize` and \
            `serde::Deserialize` for its type; it must be `Send` and own what it holds"
)]
pub trait IsOutput: Serialize + DeserializeOwned + Send + 'static {}
impl<T: Serialize + DeserializeOwned + Send + 'static> IsOutput for T {}

/// What the error of a function must be, for [`CallError`] to be the error of its calls.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a remote function",
    label = "does not travel",
    note = "an error is written by the server and shown by its caller: it needs `serde::Serialize`, \
            `serde::Deserialize`, `Debug`, `Display` and `Send` (`String` has them all)"
)]
pub trait IsError:
    Serialize + DeserializeOwned + fmt::Debug + fmt::Display + Send + 'static
{
}
// Of an error type the compiler is to say what is written above, and not which of the five traits
// is missing.
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + fmt::Debug + fmt::Display + Send + 'static> IsError for T {}

/// What a `#[state]` must be.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the state of a remote function",
    label = "not shareable",
    note = "state is shared by all workers: it must be `Send`, `Sync` and own what it holds"
)]
pub trait IsState: Send + Sync + 'static {}
impl<T: Send + Sync + 'static> IsState for T {}

pub fn assert_param<T: IsParam>() {}
pub fn assert_borrowed_param<'de, T: Serialize + Deserialize<'de>>() {}
pub fn assert_output<T: IsOutput>() {}
pub fn assert_state<T: IsState>() {}

/// Tells a `Result` that hides behind another name: the inherent constant wins where it applies.
pub struct Check<T>(std::marker::PhantomData<T>);
impl<T, E> Check<Result<T, E>> {
    pub const IS_RESULT: bool = true;
}
pub trait IsNoResult {
    const IS_RESULT: bool = false;
}
impl<T> IsNoResult for Check<T> {}

/// The type's path, for `rpc.discover`.
#[must_use]
pub fn type_name<T>() -> &'static str {
    std::any::type_name::<T>()
}
