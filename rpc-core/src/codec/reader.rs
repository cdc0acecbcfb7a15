//! Decodes values, one behind the other.

use std::fmt;

use bytes::Bytes;
use rmp_serde::decode::{Error, ReadRefReader};
use serde::{
    Deserialize,
    de::{DeserializeOwned, Error as _, Visitor},
};

use super::{
    DecodeError, MAX_DEPTH,
    deserializer::{Limits, SecondAttempt, Within},
};

type Deserializer<'de> = rmp_serde::Deserializer<ReadRefReader<'de, [u8]>>;

/// A buffer out of which consecutive values are read. They borrow from the buffer if their type
/// can.
pub struct Reader<'de> {
    /// `None` stands for a parameter that was left out.
    deserializer: Option<Deserializer<'de>>,
    buffer: &'de Bytes,
    /// The number of arrays and maps that a value may have in each other.
    depth: usize,
    /// `None` at the first attempt to read a value.
    second: Option<SecondAttempt>,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("missing", &self.deserializer.is_none())
            .finish_non_exhaustive()
    }
}

impl<'de> Reader<'de> {
    /// Makes a reader of `part`, which must be a part of `buffer`.
    pub(crate) fn new(buffer: &'de Bytes, part: &'de [u8]) -> Self {
        let mut deserializer = Deserializer::from_read_ref(part);
        // The nesting is counted around it, because rmp-serde does not count that of enums.
        deserializer.set_max_depth(usize::MAX);
        Self { deserializer: Some(deserializer), ..Self::missing(buffer) }
    }

    /// Makes a reader of a value that was left out: an `Option` is read as `None`, and any other
    /// type fails.
    pub(crate) fn missing(buffer: &'de Bytes) -> Self {
        Self { deserializer: None, buffer, depth: MAX_DEPTH, second: None }
    }

    /// Reads any serde value.
    ///
    /// # Errors
    /// Fails if the bytes do not decode to a `T`, end too early, or nest deeper than 128 levels.
    pub fn value<T: Deserialize<'de>>(&mut self) -> Result<T, DecodeError> {
        let Some(deserializer) = &mut self.deserializer else {
            return Ok(T::deserialize(Missing)?);
        };
        let limits = Limits { depth: self.depth, second: self.second.as_ref() };
        let deserializer = Within { inner: deserializer, limits };
        if self.second.is_some() {
            let value = serde_path_to_error::deserialize(deserializer);
            return value.map_err(DecodeError::traced);
        }
        Ok(T::deserialize(deserializer)?)
    }

    /// Reads bytes without copying them: the result shares the received buffer.
    ///
    /// # Errors
    /// Fails as [`value`](Self::value) does.
    pub fn shared_bytes(&mut self) -> Result<Bytes, DecodeError> {
        let part: &'de [u8] = self.value()?;
        Ok(self.buffer.slice_ref(part))
    }

    /// Reads bytes as [`shared_bytes`](Self::shared_bytes) does, but accepts nil or a value that
    /// was left out.
    ///
    /// # Errors
    /// Fails as [`value`](Self::value) does.
    pub fn shared_bytes_option(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let part: Option<&'de [u8]> = self.value()?;
        Ok(part.map(|part| self.buffer.slice_ref(part)))
    }

    /// Returns true if the value was left out.
    pub(crate) fn is_missing(&self) -> bool {
        self.deserializer.is_none()
    }

    /// Returns true if no bytes follow the values that were read.
    ///
    /// rmp-serde does not tell its position, but it reports that there is no further marker. So
    /// this tries to read a nil, which is nothing but its marker. A value that is truncated after
    /// its marker is therefore not mistaken for the end.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.deserializer.as_mut().is_none_or(|deserializer| {
            matches!(<()>::deserialize(deserializer), Err(Error::InvalidMarkerRead(_)))
        })
    }
}

/// Decodes the one value that takes up the whole of `part`, which must be a part of `buffer`.
pub(crate) fn read_whole<'de, T>(
    buffer: &'de Bytes,
    part: &'de [u8],
    decode: impl Fn(&mut Reader<'de>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    whole(buffer, part, MAX_DEPTH, decode)
}

/// Decodes the one value that `part` consists of, which must be a part of `buffer`. Nothing may
/// follow the value, which is not checked again.
#[inline]
pub(crate) fn read_exact<'de, T>(
    buffer: &'de Bytes,
    part: &'de [u8],
    decode: impl Fn(&mut Reader<'de>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    decode(&mut Reader::new(buffer, part))
        .or_else(|error| again(buffer, part, MAX_DEPTH, decode, error))
}

/// Decodes one value that takes up the whole slice. It may be an array or a map that the protocol
/// puts around values, and so it may nest one level deeper than these.
pub(crate) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    whole(&Bytes::new(), bytes, MAX_DEPTH + 1, Reader::value)
}

fn whole<'de, T>(
    buffer: &'de Bytes,
    part: &'de [u8],
    depth: usize,
    decode: impl Fn(&mut Reader<'de>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let mut reader = Reader { depth, ..Reader::new(buffer, part) };
    match decode(&mut reader) {
        Ok(value) if reader.is_at_end() => Ok(value),
        Ok(_) => Err(DecodeError::new("bytes follow the value")),
        Err(error) => again(buffer, part, depth, decode, error),
    }
}

/// Reads the value that takes up the whole of `part` again, after `decode` failed with `error`.
pub(crate) fn read_again<'de, T>(
    buffer: &'de Bytes,
    part: &'de [u8],
    decode: impl Fn(&mut Reader<'de>) -> Result<T, DecodeError>,
    error: DecodeError,
) -> Result<T, DecodeError> {
    again(buffer, part, MAX_DEPTH, decode, error)
}

/// Reads a value again, with types that have one form for machines and one for people, such as a
/// UUID or an IP address, in the one for people, as callers in other languages send it.
///
/// If that fails too, the error is that of the attempt that got further, with the place of the
/// fault.
#[cold]
fn again<'de, T>(
    buffer: &'de Bytes,
    part: &'de [u8],
    depth: usize,
    decode: impl Fn(&mut Reader<'de>) -> Result<T, DecodeError>,
    error: DecodeError,
) -> Result<T, DecodeError> {
    let attempt = |texts| {
        let second = Some(SecondAttempt { texts, ..SecondAttempt::default() });
        let mut reader = Reader { depth, second, ..Reader::new(buffer, part) };
        let decoded = decode(&mut reader);
        let elements = reader.second.as_ref().map_or(0, |second| second.elements.get());
        (decoded, reader.is_at_end(), elements)
    };
    let (in_texts, at_end, far) = attempt(true);
    let in_texts = match in_texts {
        Ok(value) if at_end => return Ok(value),
        Ok(_) => return Err(error),
        Err(in_texts) => in_texts,
    };
    let (for_machines, _, further) = attempt(false);
    match for_machines {
        Err(for_machines) if further > far => Err(for_machines),
        Err(_) => Err(in_texts),
        Ok(_) => Err(error),
    }
}

/// The deserializer of a value that was left out.
struct Missing;

impl<'de> serde::Deserializer<'de> for Missing {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("it is missing"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_none()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
