//! How a parameter or result of a given type travels: bytes as `bin`, everything else by serde.
//!
//! Generated code writes `Value::<T>::encode(...)` for a concrete `T`. Rust prefers the inherent functions
//! below, which exist for the byte types, to the trait's, which exist for every serde type. So the choice is
//! made by the type, aliases included, and not by how it is spelled.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::codec::{DecodeError, EncodeError, Reader, Writer};

/// Stands for the type `T` in generated code.
#[derive(Debug)]
pub struct Value<T: ?Sized>(PhantomData<T>);

/// Encoding by serde. Brought into scope by generated code.
pub trait EncodeBySerde<T: ?Sized> {
    /// Appends `value`.
    ///
    /// # Errors
    /// As [`Writer::value`].
    fn encode(value: &T, writer: &mut Writer) -> Result<(), EncodeError>;
}

/// Decoding by serde. Brought into scope by generated code.
pub trait DecodeBySerde<'de, T> {
    /// Reads a value.
    ///
    /// # Errors
    /// As [`Reader::value`].
    fn decode(reader: &mut Reader<'de>) -> Result<T, DecodeError>;
}

impl<T: Serialize + ?Sized> EncodeBySerde<T> for Value<T> {
    fn encode(value: &T, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.value(value)
    }
}

impl<'de, T: Deserialize<'de>> DecodeBySerde<'de, T> for Value<T> {
    fn decode(reader: &mut Reader<'de>) -> Result<T, DecodeError> {
        reader.value()
    }
}

#[allow(missing_docs, clippy::missing_errors_doc)] // Each is the trait's function of the same name.
impl Value<Vec<u8>> {
    pub fn encode(value: &[u8], writer: &mut Writer) -> Result<(), EncodeError> {
        writer.bytes(value)
    }

    pub fn decode(reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
        Ok(reader.value::<ByteBuf>()?.into_vec())
    }
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Value<Bytes> {
    pub fn encode(value: &[u8], writer: &mut Writer) -> Result<(), EncodeError> {
        writer.bytes(value)
    }

    pub fn decode(reader: &mut Reader<'_>) -> Result<Bytes, DecodeError> {
        reader.shared_bytes()
    }
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Value<[u8]> {
    pub fn encode(value: &[u8], writer: &mut Writer) -> Result<(), EncodeError> {
        writer.bytes(value)
    }
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Value<Option<Vec<u8>>> {
    pub fn encode(value: &Option<Vec<u8>>, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.value(&value.as_deref().map(serde_bytes::Bytes::new))
    }

    pub fn decode(reader: &mut Reader<'_>) -> Result<Option<Vec<u8>>, DecodeError> {
        Ok(reader.value::<Option<ByteBuf>>()?.map(ByteBuf::into_vec))
    }
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Value<Option<Bytes>> {
    pub fn encode(value: &Option<Bytes>, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.value(&value.as_deref().map(serde_bytes::Bytes::new))
    }

    pub fn decode(reader: &mut Reader<'_>) -> Result<Option<Bytes>, DecodeError> {
        reader.shared_bytes_option()
    }
}
