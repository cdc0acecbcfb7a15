//! One call as its handler sees it: the bytes it came in, the state it may use, the response it
//! makes.

use std::{any::Any, fmt, sync::Arc};

use bytes::Bytes;
use serde::Serialize;

use crate::{
    codec::{self, EncodeError, Writer},
    context::Context,
    error::{Code, Ran, WireError},
    function::HandlerResult,
    message::{self, MsgId},
    params::Params,
    registry::Function,
};

/// What a handler is given. It owns the request's buffer, so that parameters can borrow from it.
pub struct Invocation {
    pub(crate) function: Arc<Function>,
    pub(crate) body: Bytes,
    pub(crate) params_at: usize,
    /// `None` for a notification, which nobody waits for.
    pub(crate) id: Option<MsgId>,
    pub(crate) context: Context,
}

impl Invocation {
    /// The params, to be read in the order of the signature.
    ///
    /// # Errors
    /// `bad_arguments` when there are too many, or one is named that does not exist.
    pub fn params(&self) -> Result<Params<'_>, WireError> {
        Params::new(&self.body, self.params_at, self.function.signature().params)
    }

    /// The `index`th `#[state]`, which is a `T`.
    ///
    /// # Panics
    /// If it is no `T`: the registry has checked that at bind.
    #[must_use]
    pub fn state<T: Any>(&self, index: usize) -> &Arc<T> {
        self.function.states()[index].downcast_ref().expect("bind has put an Arc<T> at this index")
    }

    /// What the function can know of its call.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The response with a result.
    ///
    /// # Errors
    /// When the result cannot be encoded. The function did run.
    pub fn respond(
        &self,
        encode: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> HandlerResult {
        let Some(id) = self.id else {
            return Ok(Bytes::new());
        };
        let mut buffer = Vec::with_capacity(128);
        buffer.extend_from_slice(&message::response_head(id));
        let mut writer = Writer::new(buffer);
        encode(&mut writer).map_err(|error| unencodable("result", &error))?;
        Ok(Bytes::from(writer.into_buffer()))
    }

    /// The response with the function's own error.
    ///
    /// # Errors
    /// Always: that is how a handler says it.
    pub fn fail<E: Serialize + fmt::Display>(&self, error: &E) -> HandlerResult {
        let data = codec::to_vec(error).map_err(|cause| unencodable("error", &cause))?;
        let mut failed = WireError::new(Code::Failed, Ran::Yes, error.to_string());
        failed.data = Some(data);
        Err(failed)
    }
}

fn unencodable(what: &str, error: &EncodeError) -> WireError {
    WireError::new(
        Code::Failed,
        Ran::Yes,
        format!("the function's {what} cannot be encoded: {error}"),
    )
}

impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation")
            .field("context", &self.context)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
