//! Encodes values, one behind the other.

use rmp_serde::config::{BytesMode, SerializerConfig};
use serde::Serialize;

use super::{
    EncodeError, MAX_DEPTH,
    serializer::{Nesting, Within},
};

/// A buffer to which encoded values are appended. Structs become maps with field names, so that
/// fields can be added later.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(buffer: Vec<u8>) -> Self {
        Self { buffer }
    }

    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Begins an array of `len` values, which the caller appends next.
    pub(crate) fn array(&mut self, len: u32) {
        rmp::encode::write_array_len(&mut self.buffer, len)
            .expect("a Vec takes any number of bytes");
    }

    /// Appends nil, in the place of a stream.
    pub fn nil(&mut self) {
        self.buffer.push(rmp::Marker::Null.to_u8());
    }

    /// Appends any serde value.
    ///
    /// # Errors
    /// Fails if the value's `Serialize` fails, if a part of it has 4 Gi elements or more, or if it
    /// nests deeper than 128 levels.
    pub fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let mut serializer = rmp_serde::Serializer::new(&mut self.buffer).with_struct_map();
        encode(value, &mut serializer, Nesting { depth: MAX_DEPTH, slices_as_bin: false })
    }

    /// Appends all params of a call, which nest one level deeper than each of them.
    pub(crate) fn params<T: Serialize + ?Sized>(&mut self, params: &T) -> Result<(), EncodeError> {
        let mut serializer = rmp_serde::Serializer::new(&mut self.buffer).with_struct_map();
        encode(params, &mut serializer, Nesting { depth: MAX_DEPTH + 1, slices_as_bin: false })
    }

    /// Appends a serde value whose type borrows. Every `&[u8]` in it becomes MessagePack `bin`.
    ///
    /// # Errors
    /// Fails as [`value`](Self::value) does.
    pub fn borrowing_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let serializer = rmp_serde::Serializer::new(&mut self.buffer).with_struct_map();
        let mut serializer = serializer.with_bytes(BytesMode::ForceIterables);
        encode(value, &mut serializer, Nesting { depth: MAX_DEPTH, slices_as_bin: true })
    }

    /// Appends bytes as MessagePack `bin`.
    ///
    /// # Errors
    /// Fails for 4 GiB or more.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.buffer.reserve(bytes.len() + 5);
        self.value(serde_bytes::Bytes::new(bytes))
    }
}

fn encode<T, W, C>(
    value: &T,
    serializer: &mut rmp_serde::Serializer<W, C>,
    nesting: Nesting,
) -> Result<(), EncodeError>
where
    T: Serialize + ?Sized,
    W: std::io::Write,
    C: SerializerConfig,
{
    let value = Within { value, nesting };
    value.serialize(serializer).map_err(|error| EncodeError::new(error.to_string()))
}

/// Encodes one value.
pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::default();
    writer.value(value)?;
    Ok(writer.into_buffer())
}
