//! How a parameter or result of a given type travels: bytes as `bin`, everything else by serde.
//!
//! Generated code writes `Value::<T>::NEW.encode(...)` for a concrete `T`. Rust prefers the
//! inherent functions below, which exist for the byte types, to the traits', which exist for every
//! serde type. So the choice is made by the type, aliases included, and not by how it is spelled. A
//! type without serde gets [`Refused`].

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    codec::{DecodeError, EncodeError, Reader, Writer},
    handler::{HandlerResult, Invocation},
};

/// Stands for the type `T` in generated code.
#[derive(Debug)]
pub struct Value<T: ?Sized>(PhantomData<T>);

impl<T: ?Sized> Value<T> {
    /// The only value.
    pub const NEW: Self = Self(PhantomData);
}

/// Encoding by serde. Brought into scope by generated code.
pub trait EncodeBySerde<T: ?Sized> {
    /// Appends `value`.
    ///
    /// # Errors
    /// As [`Writer::value`].
    fn encode(self, value: &T, writer: &mut Writer) -> Result<(), EncodeError>;
}

/// Decoding by serde. Brought into scope by generated code.
pub trait DecodeBySerde<'de, T> {
    /// Reads a value.
    ///
    /// # Errors
    /// As [`Reader::value`].
    fn decode(self, reader: &mut Reader<'de>) -> Result<T, DecodeError>;
}

/// Decoding what a `&[T]` is lent from, by serde. Brought into scope by generated code.
pub trait DecodeSliceBySerde<'de, T> {
    /// Reads the elements.
    ///
    /// # Errors
    /// As [`Reader::value`].
    fn decode_slice(self, reader: &mut Reader<'de>) -> Result<Vec<T>, DecodeError>;
}

impl<'de, T: Deserialize<'de>> DecodeSliceBySerde<'de, T> for Value<[T]> {
    fn decode_slice(self, reader: &mut Reader<'de>) -> Result<Vec<T>, DecodeError> {
        reader.value()
    }
}

/// As [`Refused`], for the elements of a slice.
#[allow(missing_docs, clippy::missing_errors_doc)]
pub trait RefusedSlice<T> {
    fn decode_slice(self, reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError>;
}

impl<T> RefusedSlice<T> for &Value<[T]> {
    fn decode_slice(self, _: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
        unreachable!("the checks do not let it compile")
    }
}

/// Answering with an error, by serde. Brought into scope by generated code.
pub trait FailBySerde<E> {
    /// The response with the function's own error.
    ///
    /// # Errors
    /// Always: that is how a handler says it.
    fn fail(self, invocation: &Invocation, error: &E) -> HandlerResult;
}

/// What a type gets that cannot travel, so that the checks in [`__private`](crate::__private) are
/// the only ones to complain, and at the right place. Rust prefers every other function of the same
/// name, since these are not `Value<T>`'s but `&Value<T>`'s.
#[allow(missing_docs, clippy::missing_errors_doc)]
pub trait Refused<T: ?Sized> {
    fn encode(self, value: &T, writer: &mut Writer) -> Result<(), EncodeError>;
    fn decode(self, reader: &mut Reader<'_>) -> Result<T, DecodeError>
    where
        T: Sized;
    fn fail(self, invocation: &Invocation, error: &T) -> HandlerResult;
}

impl<T: ?Sized> Refused<T> for &Value<T> {
    fn encode(self, _: &T, _: &mut Writer) -> Result<(), EncodeError> {
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
}

impl<'de, T: Deserialize<'de>> DecodeBySerde<'de, T> for Value<T> {
    fn decode(self, reader: &mut Reader<'de>) -> Result<T, DecodeError> {
        reader.value()
    }
}

#[allow(missing_docs, clippy::missing_errors_doc)] // Each is the trait's function of the same name.
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

    /// Borrows them from the request.
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
