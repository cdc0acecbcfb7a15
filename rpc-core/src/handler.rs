//! The server's half of a remote function: the entry that is collected at link time, and one call
//! as its handler sees it. Generated code makes and uses these types.

use std::{
    any::{Any, TypeId},
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
};

use bytes::Bytes;
use serde::Serialize;

use crate::{
    arrivals::Arrivals,
    codec::{self, EncodeError, Writer},
    context::Context,
    error::Ran,
    function::{RemoteFn, Signature},
    inlet::{Decode, Incoming, Passed},
    outlet::Outlet,
    params::Params,
    protocol::{
        MsgId,
        error::{Code, WireError},
        response,
    },
};

/// A remote function with a body in this program, which a server can therefore serve.
///
/// `#[remote]` implements the trait. A declaration without a body (`#[remote] fn f();`) is a
/// [`RemoteFn`], but not a `ServedFn`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be served: it has no body here",
    note = "a body-less `#[remote] fn ...;` only declares a function; serve the one that implements it"
)]
pub trait ServedFn: RemoteFn {
    /// The handler and its signature.
    #[doc(hidden)]
    const ENTRY: &'static Entry;
}

/// The facts that a server needs to run a function. `inventory` collects the entries at link time.
#[derive(Debug)]
pub struct Entry {
    pub(crate) signature: &'static Signature,
    pub(crate) handler: Handler,
    pub(crate) states: &'static [StateType],
    pub(crate) file: &'static str,
    pub(crate) line: u32,
    /// The path of the module that has the function.
    pub(crate) module: &'static str,
    /// True if a parameter is a stream.
    pub(crate) takes_stream: bool,
}

impl Entry {
    /// Makes an entry. `file` and `line` locate the function in the source, for error messages.
    #[must_use]
    pub const fn new(
        signature: &'static Signature,
        handler: Handler,
        states: &'static [StateType],
        file: &'static str,
        line: u32,
        module: &'static str,
    ) -> Self {
        Self { signature, handler, states, file, line, module, takes_stream: false }
    }

    /// Notes that a parameter is a stream.
    #[must_use]
    pub const fn taking_stream(mut self) -> Self {
        self.takes_stream = true;
        self
    }

    /// Returns true if both entries come from the same place in the source. A crate whose unit
    /// tests depend on it through another crate is linked twice.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let place = |entry: &Self| (entry.module, entry.file, entry.line, entry.signature.name);
        place(self) == place(other)
    }
}

inventory::collect!(&'static Entry);

/// A declaration that is linked into this program, and its place in the source.
#[derive(Debug)]
pub struct Declared {
    pub(crate) signature: &'static Signature,
    pub(crate) file: &'static str,
    pub(crate) line: u32,
}

impl Declared {
    /// Makes the record of a declaration.
    #[must_use]
    pub const fn new(signature: &'static Signature, file: &'static str, line: u32) -> Self {
        Self { signature, file, line }
    }
}

inventory::collect!(Declared);

/// The body of the response, or the error that the response reports.
pub type HandlerResult = Result<Bytes, WireError>;
/// The future of an async handler.
pub type HandlerFuture = Pin<Box<dyn Future<Output = HandlerResult> + Send>>;

/// A generated function that decodes the params, runs the remote function and encodes the result.
#[derive(Debug, Clone, Copy)]
pub enum Handler {
    /// For [`Execution::Blocking`](crate::Execution) and [`Execution::Inline`](crate::Execution).
    Sync(fn(&Invocation) -> HandlerResult),
    /// For [`Execution::Async`](crate::Execution).
    Async(fn(Invocation) -> HandlerFuture),
    /// For a function that returns a stream, async or blocking.
    Stream(fn(Invocation, Outlet) -> HandlerFuture),
}

/// The type of a `#[state]` parameter.
#[derive(Debug)]
pub struct StateType {
    pub(crate) id: fn() -> TypeId,
    /// The type of an `Arc` of it.
    pub(crate) shared_id: fn() -> TypeId,
    pub(crate) name: fn() -> &'static str,
}

impl StateType {
    /// Describes the type `T`, not the reference to it.
    #[must_use]
    pub const fn of<T: 'static>() -> Self {
        Self {
            id: TypeId::of::<T>,
            shared_id: TypeId::of::<Arc<T>>,
            name: std::any::type_name::<T>,
        }
    }
}

/// The two types of a `Result`, under whatever path or alias it is written.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is named `Result` but is not `std::result::Result`",
    note = "a remote function's `Result` must be the standard one or an alias of it"
)]
pub trait ResultParts {
    /// `T` of `Result<T, E>`.
    type Ok;
    /// `E` of `Result<T, E>`.
    type Err;
    /// Returns the value itself, which the compiler then knows as a `Result`.
    #[allow(clippy::missing_errors_doc)]
    fn into_result(self) -> Result<Self::Ok, Self::Err>;
}

impl<T, E> ResultParts for Result<T, E> {
    type Ok = T;
    type Err = E;
    fn into_result(self) -> Self {
        self
    }
}

/// A state that the server was given. The type-erased pointer holds an `Arc<T>`, for
/// `downcast_ref::<Arc<T>>`.
pub(crate) type SharedState = Arc<dyn Any + Send + Sync>;

/// A function that is served, with the states for its `#[state]` parameters in their order.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) entry: &'static Entry,
    pub(crate) states: Box<[SharedState]>,
}

impl Function {
    pub(crate) fn signature(&self) -> &'static Signature {
        self.entry.signature
    }

    pub(crate) fn handler(&self) -> Handler {
        self.entry.handler
    }
}

/// One call, as its handler receives it. It owns the buffer of the request, so that parameters can
/// borrow from that.
pub struct Invocation {
    pub(crate) function: Arc<Function>,
    pub(crate) body: Bytes,
    pub(crate) params_at: usize,
    /// `None` for a notification, which has no response.
    pub(crate) id: Option<MsgId>,
    pub(crate) context: Context,
    /// The items of the stream among its arguments. `None` if there can be none.
    pub(crate) arrivals: Option<Arc<Arrivals>>,
}

impl Invocation {
    /// Returns the params, to be read in the order of the signature.
    ///
    /// # Errors
    /// `bad_arguments` if there are too many arguments, or if one has a name that no parameter has.
    pub fn params(&self) -> Result<Params<'_>, WireError> {
        Params::new(&self.body, self.params_at, self.function.signature().params)
    }

    /// Makes the stream for the parameter number `index`, counted among those that travel. To be
    /// called after all params were read, because the caller begins to send now.
    ///
    /// # Errors
    /// `bad_arguments` if nobody can send the items.
    pub fn incoming<T>(
        &self,
        index: usize,
        passed: Passed<T>,
        decode: Decode<T>,
    ) -> Result<Incoming<T>, WireError> {
        let signature = self.function.signature();
        let name = signature.params[index].name;
        match (passed, &self.arrivals) {
            (Passed::Items(items), _) => Ok(items.into()),
            (Passed::Stream, Some(arrivals)) => {
                Ok(Incoming::begin(Arc::clone(arrivals), signature.name, name, decode))
            }
            (Passed::Stream, None) => Err(WireError::new(
                Code::BadArguments,
                Ran::No,
                format!(
                    "parameter `{name}`: the items cannot come one by one in a notification, in a \
                     call with a key, or through a proxy or a broker; pass an array of all items"
                ),
            )),
        }
    }

    /// Returns the state of the `#[state]` parameter with this index, which has the type `T`.
    ///
    /// # Panics
    /// If the state has another type. The registry has checked the types when the server was bound.
    #[must_use]
    pub fn state<T: Any>(&self, index: usize) -> &Arc<T> {
        self.function.states[index].downcast_ref().expect("bind has put an Arc<T> at this index")
    }

    /// Returns the context that the function receives.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Makes the response with the result that `encode` writes.
    ///
    /// # Errors
    /// `failed`, with `ran: yes`, if the result cannot be encoded.
    pub fn respond(
        &self,
        encode: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> HandlerResult {
        let Some(id) = self.id else {
            return Ok(Bytes::new());
        };
        let mut buffer = Vec::with_capacity(128);
        buffer.extend_from_slice(&response::response_head(id));
        let mut writer = Writer::new(buffer);
        encode(&mut writer).map_err(|error| WireError::unencodable("result", &error))?;
        Ok(Bytes::from(writer.into_buffer()))
    }

    /// Makes the response with the function's own error.
    ///
    /// # Errors
    /// Always, because a handler returns the function's error as an `Err`.
    pub fn fail<E: Serialize + fmt::Display>(&self, error: &E) -> HandlerResult {
        let data = codec::to_vec(error).map_err(|cause| WireError::unencodable("error", &cause))?;
        let mut failed = WireError::new(Code::Failed, Ran::Yes, error.to_string());
        failed.data = Some(data);
        Err(failed)
    }
}

impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation")
            .field("context", &self.context)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
