//! The only paths that generated code may name. They are not public API, and may change at any
//! time.

pub use futures_core::Stream;
pub use inventory;

pub use crate::{
    args::Args,
    bounds::{
        Check, IsError, IsItem, IsNoResult, IsOutput, IsParam, IsState, NoMap, NoMapOfStreams,
        NoNotify, NoNotifyOfStreams, PassedStream, assert_borrowed_param, assert_item,
        assert_output, assert_param, assert_state,
    },
    client::{Call, Client, Map, Notify, Streaming, Upload},
    codec::{DecodeError, Reader, Writer},
    context::Context,
    declaration::{
        Declaration, Declares, IsErrorOfItems, SameAs, assert_one_error, assert_same, same_text,
    },
    error::{CallError, RpcError},
    function::{Execution, Param, RemoteFn, RemoteStream, Signature},
    handler::{
        Declared, Entry, Handler, HandlerFuture, HandlerResult, Invocation, ResultParts, ServedFn,
        StateType,
    },
    inlet::{Incoming, IsIncoming, Passed, assert_incoming},
    outlet::{Iterate, Outlet, SendStream, iterate, send_stream},
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
