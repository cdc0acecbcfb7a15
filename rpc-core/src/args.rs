//! The encoded arguments of one call.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::Serialize;

use crate::{
    codec::{EncodeError, Writer},
    function::RemoteFn,
    protocol::outgoing::EncodedArgs,
};

/// The encoded arguments of one call of `F`.
///
/// `F::args(...)` makes them, and [`Client::call`](crate::Client::call) takes them.
/// `F::call(&client, ...)` does both. Clones can be used for further calls.
pub struct Args<F> {
    encoded: EncodedArgs,
    function: PhantomData<fn() -> F>,
}

impl<F: RemoteFn> Args<F> {
    /// Encodes `count` arguments with `encode`. For generated code.
    #[doc(hidden)]
    pub fn encode(
        count: usize,
        encode: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Self {
        let method = Cow::Borrowed(F::SIGNATURE.name);
        let encoded = EncodedArgs::encode(method, |writer| {
            writer.array(u32::try_from(count).expect("no function has 2^32 parameters"));
            encode(writer)
        });
        Self { encoded, function: PhantomData }
    }

    /// Encodes the arguments of a function that is known by name only.
    pub(crate) fn dynamic(method: &str, params: &impl Serialize) -> Self {
        Self { encoded: EncodedArgs::dynamic(method.to_owned(), params), function: PhantomData }
    }

    pub(crate) fn into_encoded(self) -> EncodedArgs {
        self.encoded
    }
}

impl<F> Clone for Args<F> {
    fn clone(&self) -> Self {
        Self { encoded: self.encoded.clone(), function: PhantomData }
    }
}

impl<F: RemoteFn> fmt::Debug for Args<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Args").field("function", &F::SIGNATURE.name).finish_non_exhaustive()
    }
}
