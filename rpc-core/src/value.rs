//! The encoding of parameters and results by type: bytes as `bin`, everything else by serde. In a
//! parameter whose type borrows, bytes that are borrowed are `bin` wherever they stand.
//!
//! Generated code calls `Value::<T>::NEW.encode(...)` for a concrete `T`. The inherent functions
//! below exist for the byte types and `Path` only, and Rust prefers them to the functions of the traits, which
//! exist for every serde type. So the type decides, also behind an alias, and not the way in which
//! the source spells it. A type without serde falls back to [`Refused`].

use std::{fmt, marker::PhantomData, path::Path};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    codec::{DecodeError, EncodeError, Reader, Writer},
    handler::{HandlerResult, Invocation},
};

/// A stand-in for the type `T` in generated code.
#[derive(Debug)]
pub struct Value<T: ?Sized>(PhantomData<T>);

impl<T: ?Sized> Value<T> {
    /// The only value of this type.
    pub const NEW: Self = Self(PhantomData);
}

/// Encoding by serde. Brought into scope by generated code.
pub trait EncodeBySerde<T: ?Sized> {
    /// Appends `value` to the writer.
    ///
    /// # Errors
    /// Fails as [`Writer::value`] does.
    fn encode(self, value: &T, writer: &mut Writer) -> Result<(), EncodeError>;

    /// Appends `value`, whose type borrows, to the writer.
    ///
    /// # Errors
    /// Fails as [`Writer::borrowing_value`] does.
    fn encode_borrowing(self, value: &T, writer: &mut Writer) -> Result<(), EncodeError>;
}

/// Decoding by serde. Brought into scope by generated code.
pub trait DecodeBySerde<'de, T> {
    /// Reads a value.
    ///
    /// # Errors
    /// Fails as [`Reader::value`] does.
    fn decode(self, reader: &mut Reader<'de>) -> Result<T, DecodeError>;
}

/// Decoding the elements behind a `&[T]` parameter, by serde. Brought into scope by generated code.
pub trait DecodeSliceBySerde<'de, T> {
    /// Reads the elements, which the function then borrows.
    ///
    /// # Errors
    /// Fails as [`Reader::value`] does.
    fn decode_slice(self, reader: &mut Reader<'de>) -> Result<Vec<T>, DecodeError>;
}

impl<'de, T: Deserialize<'de>> DecodeSliceBySerde<'de, T> for Value<[T]> {
    fn decode_slice(self, reader: &mut Reader<'de>) -> Result<Vec<T>, DecodeError> {
        reader.value()
    }
}

/// The fallback for the elements of a slice that cannot be decoded. See [`Refused`].
#[allow(missing_docs, clippy::missing_errors_doc)]
pub trait RefusedSlice<T> {
    fn decode_slice(self, reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError>;
}

impl<T> RefusedSlice<T> for &Value<[T]> {
    fn decode_slice(self, _: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
        unreachable!("the checks do not let it compile")
    }
}

/// The types that are always sent: all but `Option`. Brought into scope by generated code.
pub trait AlwaysSent<T: ?Sized> {
    /// Returns false.
    fn left_out(self, value: &T) -> bool;
}

impl<T: ?Sized> AlwaysSent<T> for Value<T> {
    fn left_out(self, _: &T) -> bool {
        false
    }
}

impl<T> Value<Option<T>> {
    /// Returns true if the value is `None`, which is left out at the end of the arguments.
    #[must_use]
    pub fn left_out(self, value: &Option<T>) -> bool {
        value.is_none()
    }
}

/// Returns the number of arguments that are sent. `left_out` tells which of them may be left out:
/// those at the end are. A server that does not know the last parameters takes such a call, and any
/// other reads `None`.
#[must_use]
pub fn sent<const N: usize>(left_out: [bool; N]) -> usize {
    left_out.iter().rposition(|left_out| !left_out).map_or(0, |last| last + 1)
}

/// Responding with the function's own error, by serde. Brought into scope by generated code.
pub trait FailBySerde<E> {
    /// Makes the response with the function's own error.
    ///
    /// # Errors
    /// Always, because a handler returns the function's error as an `Err`.
    fn fail(self, invocation: &Invocation, error: &E) -> HandlerResult;
}

/// The fallback for a type that cannot be encoded or decoded.
///
/// With it, the only compile error is that of the checks in [`__private`](crate::__private), which
/// points at the right place. Rust prefers every other function of the same name, because these are
/// functions of `&Value<T>` and not of `Value<T>`.
#[allow(missing_docs, clippy::missing_errors_doc)]
pub trait Refused<T: ?Sized> {
    fn encode(self, value: &T, writer: &mut Writer) -> Result<(), EncodeError>;
    fn encode_borrowing(self, value: &T, writer: &mut Writer) -> Result<(), EncodeError>;
    fn decode(self, reader: &mut Reader<'_>) -> Result<T, DecodeError>
    where
        T: Sized;
    fn fail(self, invocation: &Invocation, error: &T) -> HandlerResult;
}

impl<T: ?Sized> Refused<T> for &Value<T> {
    fn encode(self, _: &T, _: &mut Writer) -> Result<(), EncodeError> {
        unreachable!("the checks do not let it compile")
    }

    fn encode_borrowing(self, _: &T, _: &mut Writer) -> Result<(), EncodeError> {
        unreachable!("the checks do not let it compile")
    }

    fn decode(self, _: &mut Reader<'_>) -> Result<T, DecodeError>
    where
        T: Sized,
    {
        unreachable!("the checks do not let it compile")
    }

    fn fail(self, _: &Invocation, _: &T) -> HandlerResult {
        unreachable!("the checks do not let it compile")
    }
}

impl<E: Serialize + fmt::Display> FailBySerde<E> for Value<E> {
    fn fail(self, invocation: &Invocation, error: &E) -> HandlerResult {
        invocation.fail(error)
    }
}

impl<T: Serialize + ?Sized> EncodeBySerde<T> for Value<T> {
    fn encode(self, value: &T, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.value(value)
    }

    fn encode_borrowing(self, value: &T, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.borrowing_value(value)
    }
}

impl<'de, T: Deserialize<'de>> DecodeBySerde<'de, T> for Value<T> {
    fn decode(self, reader: &mut Reader<'de>) -> Result<T, DecodeError> {
        reader.value()
    }
}

#[allow(missing_docs, clippy::missing_errors_doc)] // See the functions of the same names above.
impl Value<Vec<u8>> {
    pub fn encode(self, value: &[u8], writer: &mut Writer) -> Result<(), EncodeError> {
        writer.bytes(value)
    }

    pub fn decode(self, reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
        Ok(reader.value::<ByteBuf>()?.into_vec())
    }
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Value<Bytes> {
    pub fn encode(self, value: &[u8], writer: &mut Writer) -> Result<(), EncodeError> {
        writer.bytes(value)
    }

    pub fn decode(self, reader: &mut Reader<'_>) -> Result<Bytes, DecodeError> {
        reader.shared_bytes()
    }
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Value<[u8]> {
    pub fn encode(self, value: &[u8], writer: &mut Writer) -> Result<(), EncodeError> {
        writer.bytes(value)
    }

    /// Borrows the bytes from the request.
    pub fn decode_slice<'de>(self, reader: &mut Reader<'de>) -> Result<&'de [u8], DecodeError> {
        reader.value()
    }
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Value<Option<Vec<u8>>> {
    pub fn encode(self, value: &Option<Vec<u8>>, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.value(&value.as_deref().map(serde_bytes::Bytes::new))
    }

    pub fn decode(self, reader: &mut Reader<'_>) -> Result<Option<Vec<u8>>, DecodeError> {
        Ok(reader.value::<Option<ByteBuf>>()?.map(ByteBuf::into_vec))
    }
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Value<Option<Bytes>> {
    pub fn encode(self, value: &Option<Bytes>, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.value(&value.as_deref().map(serde_bytes::Bytes::new))
    }

    pub fn decode(self, reader: &mut Reader<'_>) -> Result<Option<Bytes>, DecodeError> {
        reader.shared_bytes_option()
    }
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Value<Path> {
    /// Borrows the path from the request.
    pub fn decode<'de>(self, reader: &mut Reader<'de>) -> Result<&'de Path, DecodeError> {
        reader.value()
    }
}
