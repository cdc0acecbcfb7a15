//! The only paths that generated code may name. They are not public API, and may change at any
//! time.

pub use inventory;

pub use crate::{
    args::Args,
    bounds::{
        Check, IsError, IsNoResult, IsOutput, IsParam, IsState, assert_borrowed_param,
        assert_output, assert_param, assert_state,
    },
    client::{Call, Client, Map, Notify},
    codec::{DecodeError, Reader, Writer},
    context::Context,
    declaration::{Declaration, Declares, SameAs, assert_same, same_text},
    error::{CallError, RpcError},
    function::{Execution, Param, RemoteFn, Signature},
    handler::{
        Declared, Entry, Handler, HandlerFuture, HandlerResult, Invocation, ResultParts, ServedFn,
        StateType,
    },
    value::{
        AlwaysSent, DecodeBySerde, DecodeSliceBySerde, EncodeBySerde, FailBySerde, Refused,
        RefusedSlice, Value, sent,
    },
};

/// Returns the path of the type `T`, for `rpc.discover`.
#[must_use]
pub fn type_name<T>() -> &'static str {
    std::any::type_name::<T>()
}
