//! Encodes values to MessagePack, and decodes them. No other file names rmp-serde. The file does no
//! I/O, and knows nothing of the messages around the values.

use std::fmt;

use bytes::Bytes;
use rmp::Marker;
use rmp_serde::decode::ReadRefReader;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, Error as _, Visitor},
};

/// The deepest nesting of a received value. A deeper value is refused, so that no input can exhaust
/// the stack.
pub(crate) const MAX_DEPTH: usize = 128;

/// The reason why a value could not be encoded.
#[derive(Debug, Clone)]
pub struct EncodeError(String);

/// The reason why bytes do not decode to the wanted type.
#[derive(Debug, Clone)]
pub struct DecodeError(String);

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl EncodeError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl std::error::Error for EncodeError {}
impl std::error::Error for DecodeError {}

impl From<rmp_serde::decode::Error> for DecodeError {
    fn from(error: rmp_serde::decode::Error) -> Self {
        use rmp_serde::decode::Error;
        /// The longest text, in characters. Serde quotes input that it did not expect, and a peer
        /// chose that input. The text is cut so that messages stay small.
        const LONGEST: usize = 200;
        let mut text = match error {
            Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => {
                "the bytes end too early".to_owned()
            }
            Error::TypeMismatch(found) => format!("{} was found", describe(found)),
            Error::DepthLimitExceeded => format!("nested deeper than {MAX_DEPTH} levels"),
            other => other.to_string(),
        };
        if let Some((end, _)) = text.char_indices().nth(LONGEST) {
            text.truncate(end);
            text.push('…');
        }
        Self(text)
    }
}

/// Names the kind of value that begins with `marker`, in words that need no knowledge of
/// MessagePack.
fn describe(marker: Marker) -> &'static str {
    match marker {
        Marker::Null => "nil",
        Marker::True | Marker::False => "a boolean",
        Marker::F32 | Marker::F64 => "a floating-point number",
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => "a string",
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => "bytes",
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => "an array",
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => "a map",
        Marker::FixPos(_)
        | Marker::FixNeg(_)
        | Marker::U8
        | Marker::U16
        | Marker::U32
        | Marker::U64
        | Marker::I8
        | Marker::I16
        | Marker::I32
        | Marker::I64 => "an integer",
        _ => "a value of another kind",
    }
}

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

    /// Appends any serde value.
    ///
    /// # Errors
    /// Fails if the value's `Serialize` fails, or if a sequence or map is longer than MessagePack
    /// can express.
    pub fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let mut serializer = rmp_serde::Serializer::new(&mut self.buffer).with_struct_map();
        value.serialize(&mut serializer).map_err(|error| EncodeError(error.to_string()))
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

/// Encodes one value.
pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::default();
    writer.value(value)?;
    Ok(writer.into_buffer())
}

/// Decodes one value that takes up the whole slice.
pub(crate) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut deserializer = deserializer(bytes);
    let value = T::deserialize(&mut deserializer)?;
    if at_end(&mut deserializer) {
        Ok(value)
    } else {
        Err(DecodeError("bytes follow the value".to_owned()))
    }
}

type Deserializer<'de> = rmp_serde::Deserializer<ReadRefReader<'de, [u8]>>;

fn deserializer(bytes: &[u8]) -> Deserializer<'_> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(MAX_DEPTH);
    deserializer
}

/// Returns true if no bytes follow the values that were read.
///
/// rmp-serde does not tell its position, but it reports that there is no further marker. So this
/// tries to read a nil, which is nothing but its marker. A value that is truncated after its marker
/// is therefore not mistaken for the end.
fn at_end(deserializer: &mut Deserializer<'_>) -> bool {
    matches!(<()>::deserialize(deserializer), Err(rmp_serde::decode::Error::InvalidMarkerRead(_)))
}

/// A buffer out of which consecutive values are read. They borrow from the buffer if their type
/// can.
pub struct Reader<'de> {
    /// `None` stands for a parameter that was left out.
    deserializer: Option<Deserializer<'de>>,
    buffer: &'de Bytes,
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
        Self { deserializer: Some(deserializer(part)), buffer }
    }

    /// Makes a reader of a value that was left out: an `Option` is read as `None`, and any other
    /// type fails.
    pub(crate) fn missing(buffer: &'de Bytes) -> Self {
        Self { deserializer: None, buffer }
    }

    /// Reads any serde value.
    ///
    /// # Errors
    /// Fails if the bytes do not decode to a `T`, end too early, or nest deeper than 128 levels.
    pub fn value<T: Deserialize<'de>>(&mut self) -> Result<T, DecodeError> {
        match &mut self.deserializer {
            Some(deserializer) => Ok(T::deserialize(deserializer)?),
            None => Ok(T::deserialize(Missing)?),
        }
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

    /// Returns true if everything was read.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.deserializer.as_mut().is_none_or(at_end)
    }
}

/// The deserializer of a value that was left out.
struct Missing;

impl<'de> serde::Deserializer<'de> for Missing {
    type Error = rmp_serde::decode::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("it is missing"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_none()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::de::IgnoredAny;

    use super::*;

    #[test]
    fn struct_is_a_map_and_may_be_an_array() {
        #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
        struct Point {
            x: i32,
            y: i32,
        }
        let bytes = to_vec(&Point { x: 1, y: -1 }).unwrap();
        assert_eq!(bytes, b"\x82\xa1x\x01\xa1y\xff");
        assert_eq!(from_slice::<Point>(&bytes).unwrap(), Point { x: 1, y: -1 });
        assert_eq!(from_slice::<Point>(b"\x92\x01\xff").unwrap(), Point { x: 1, y: -1 });
    }

    #[test]
    fn bytes_after_the_value_are_refused() {
        assert_eq!(from_slice::<u8>(b"\x07").unwrap(), 7);
        // Whole values, truncated values, and the one reserved marker.
        for behind in [
            &b"\x07"[..],
            b"\x91",
            b"\x81",
            b"\x92\x01",
            b"\xcd",
            b"\xa1",
            b"\xc7",
            b"\xd4",
            b"\xc1",
        ] {
            let error = from_slice::<u8>(&[b"\x07", behind].concat()).unwrap_err();
            assert_eq!(error.to_string(), "bytes follow the value", "{behind:?}");
        }
    }

    #[test]
    fn too_deep_nesting_is_refused() {
        for opening in [b"\x91".as_slice(), b"\x81\xa1k"] {
            let mut deep = opening.repeat(1_000_000);
            deep.push(0xc0);
            let error = from_slice::<IgnoredAny>(&deep).unwrap_err();
            assert_eq!(error.to_string(), "nested deeper than 128 levels");
        }
        let mut fits = vec![0x91; MAX_DEPTH - 2];
        fits.push(0xc0);
        from_slice::<IgnoredAny>(&fits).unwrap();
    }

    #[test]
    fn false_length_allocates_nothing() {
        assert!(from_slice::<Vec<u64>>(b"\xdd\xff\xff\xff\xff").is_err());
        assert!(from_slice::<serde_bytes::ByteBuf>(b"\xc6\xff\xff\xff\xff").is_err());
        assert!(from_slice::<BTreeMap<u64, u64>>(b"\xdf\xff\xff\xff\xff").is_err());
        assert!(from_slice::<String>(b"\xdb\xff\xff\xff\xff").is_err());
    }

    #[test]
    fn borrowed_values_point_into_the_buffer() {
        let mut writer = Writer::default();
        writer.value("text").unwrap();
        writer.bytes(b"raw").unwrap();
        writer.bytes(b"").unwrap();
        let buffer = Bytes::from(writer.into_buffer());
        let range = buffer.as_ptr_range();

        let mut reader = Reader::new(&buffer, &buffer);
        let text: &str = reader.value().unwrap();
        assert_eq!(text, "text");
        assert!(range.contains(&text.as_ptr()));
        let raw = reader.shared_bytes().unwrap();
        assert_eq!(raw, "raw");
        assert!(range.contains(&raw.as_ptr()));
        assert_eq!(reader.shared_bytes().unwrap(), "");
        assert!(reader.is_at_end());
    }

    #[test]
    fn wrong_type_is_named_in_words() {
        let found = |bytes| from_slice::<i64>(bytes).unwrap_err().to_string();
        assert!(found(b"\xa1x").contains("a string"), "{}", found(b"\xa1x"));
        assert!(found(b"\x90").contains("an array"), "{}", found(b"\x90"));
        let found = from_slice::<String>(b"\x05").unwrap_err().to_string();
        assert!(found.contains("integer"), "{found}");
    }

    #[test]
    fn long_input_is_quoted_in_part() {
        #[derive(Debug, serde::Deserialize)]
        enum Known {}
        let long = to_vec(&"x".repeat(1_000_000)).unwrap();
        let error = from_slice::<Known>(&long).unwrap_err();
        assert!(error.to_string().len() < 300);
    }

    #[test]
    fn only_an_option_may_be_missing() {
        let buffer = Bytes::new();
        assert_eq!(Reader::missing(&buffer).value::<Option<u8>>().unwrap(), None);
        assert_eq!(Reader::missing(&buffer).shared_bytes_option().unwrap(), None);
        let error = Reader::missing(&buffer).value::<u8>().unwrap_err();
        assert_eq!(error.to_string(), "it is missing");
        assert!(Reader::missing(&buffer).shared_bytes().is_err());
    }
}
