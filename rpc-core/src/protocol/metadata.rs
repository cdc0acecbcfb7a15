//! Metadata, which travels with a call: the encoding of its pairs, and the form of a trace context.

use std::{fmt, ops::Range};

use rmp::{decode, encode};

use crate::protocol::msgpack::{read_str, read_str_or_bin};

/// The largest number of pairs of a call.
pub(crate) const MAX_PAIRS: usize = 32;
/// The largest length of all names and values of a call together, in bytes.
pub(crate) const MAX_BYTES: usize = 4_096;

/// The header of an encoded map with up to 65,535 pairs, whose number follows in two bytes.
const MAP16: u8 = 0xde;
const HEADER: Range<usize> = 0..3;

/// Pairs of names and values, as an encoded map. Without a pair, it is empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Metadata(Vec<u8>);

/// The value of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    fn read(rest: &mut &'a [u8]) -> Option<Self> {
        match read_str(rest) {
            Some(text) => Some(Self::Text(text)),
            None => read_str_or_bin(rest).map(Self::Bytes),
        }
    }
}

impl Metadata {
    /// Takes a map that [`read`] has accepted.
    pub(crate) fn received(map: &[u8]) -> Self {
        Self(map.to_vec())
    }

    /// Returns the encoded map. `None` if there are no pairs.
    pub(crate) fn encoded(&self) -> Option<&[u8]> {
        (!self.0.is_empty()).then_some(&self.0)
    }

    /// Sets a value, in place of an earlier one of the same name.
    pub(crate) fn set(&mut self, name: &str, value: Value<'_>) {
        let mut pairs: Vec<u8> = Vec::with_capacity(self.0.len() + name.len() + 16);
        pairs.extend_from_slice(&[MAP16, 0, 0]);
        let mut count: u16 = 0;
        let kept = self.pairs().filter(|(kept, _)| *kept != name);
        for (name, value) in kept.chain([(name, value)]) {
            let written = encode::write_str(&mut pairs, name).and_then(|()| match value {
                Value::Text(text) => encode::write_str(&mut pairs, text),
                Value::Bytes(bytes) => encode::write_bin(&mut pairs, bytes),
            });
            written.expect("a vector takes everything");
            count = count.saturating_add(1);
        }
        let [high, low] = count.to_be_bytes();
        pairs[HEADER].copy_from_slice(&[MAP16, high, low]);
        self.0 = pairs;
    }

    /// Sets all values of `other`.
    pub(crate) fn extend(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        for (name, value) in other.pairs() {
            self.set(name, value);
        }
    }

    /// Returns a value. If a name appears twice, the last one counts.
    pub(crate) fn get(&self, name: &str) -> Option<Value<'_>> {
        self.pairs().filter(|(other, _)| *other == name).last().map(|(_, value)| value)
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        let mut rest = &*self.0;
        let count = decode::read_map_len(&mut rest).unwrap_or(0);
        (0..count).map_while(move |_| Some((read_str(&mut rest)?, Value::read(&mut rest)?)))
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// Returns the number of pairs and of bytes if there are too many.
    pub(crate) fn check(&self) -> Result<(), (usize, usize)> {
        let (mut count, mut bytes) = (0, 0);
        for (name, value) in self.pairs() {
            count += 1;
            bytes += name.len() + value.as_bytes().len();
        }
        if count > MAX_PAIRS || bytes > MAX_BYTES { Err((count, bytes)) } else { Ok(()) }
    }
}

/// Shows the names. The values may be secrets.
impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.pairs().map(|(name, _)| name)).finish()
    }
}

/// Reads an encoded map of metadata. Returns `None` if it is none, or if it is over the limits.
pub(crate) fn read<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let before = *rest;
    let mut pairs = before;
    let count = decode::read_map_len(&mut pairs).ok()?;
    if usize::try_from(count).ok()? > MAX_PAIRS {
        return None;
    }
    let mut bytes = 0_usize;
    for _ in 0..count {
        bytes += read_str(&mut pairs)?.len() + Value::read(&mut pairs)?.as_bytes().len();
    }
    *rest = pairs;
    (bytes <= MAX_BYTES).then(|| &before[..before.len() - pairs.len()])
}

/// Reads an encoded value as a `traceparent` of the
/// [W3C](https://www.w3.org/TR/trace-context/#traceparent-header). `None` if it is none: others are
/// to be ignored.
pub(crate) fn trace_parent(mut value: &[u8]) -> Option<&str> {
    read_str(&mut value).filter(|text| is_trace_parent(text))
}

/// Returns true if `text` is a `traceparent`: a version, the id of the trace, that of the calling
/// span, and flags, in lower hexadecimal digits. A later version may append more.
pub(crate) fn is_trace_parent(text: &str) -> bool {
    const LONGEST: usize = 128;
    let mut parts = text.split('-');
    let mut part = |len: usize| {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        parts.next().filter(|part| part.len() == len && part.bytes().all(is_digit))
    };
    let (Some(version), Some(trace), Some(span), Some(_flags)) =
        (part(2), part(32), part(16), part(2))
    else {
        return false;
    };
    let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
    let ends = version != "00" || parts.next().is_none();
    version != "ff" && !is_zero(trace) && !is_zero(span) && ends && text.len() <= LONGEST
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn of(pairs: &[(&str, Value<'_>)]) -> Metadata {
        let mut metadata = Metadata::default();
        for (name, value) in pairs {
            metadata.set(name, *value);
        }
        metadata
    }

    #[test]
    fn last_value_of_a_name_counts() {
        let mut metadata =
            of(&[("a", Value::Text("1")), ("b", Value::Bytes(b"\xff")), ("a", Value::Text("2"))]);
        assert_eq!(metadata.get("a"), Some(Value::Text("2")));
        assert_eq!(metadata.get("b"), Some(Value::Bytes(b"\xff")));
        assert_eq!(metadata.get("c"), None);
        metadata.extend(&of(&[("b", Value::Text("3")), ("c", Value::Text(""))]));
        let pairs: Vec<_> = metadata.pairs().collect();
        let expected = [("a", Value::Text("2")), ("b", Value::Text("3")), ("c", Value::Text(""))];
        assert_eq!(pairs, expected);
        let mut rest = metadata.encoded().unwrap();
        assert_eq!(read(&mut rest), metadata.encoded());
        assert!(rest.is_empty());
        assert_eq!(Metadata::default().encoded(), None);
        let twice = Metadata::received(b"\x82\xa1a\xa11\xa1a\xa12");
        assert_eq!(twice.get("a"), Some(Value::Text("2")));
    }

    #[test]
    fn values_are_not_shown() {
        let metadata = of(&[("token", Value::Text("secret"))]);
        assert_eq!(format!("{metadata:?}"), r#"{"token"}"#);
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let many = |count: usize| {
            let mut metadata = Metadata::default();
            for n in 0..count {
                metadata.set(&n.to_string(), Value::Text(""));
            }
            metadata
        };
        let long = |len: usize| of(&[("n", Value::Bytes(&vec![0; len]))]);
        for (metadata, error) in [
            (many(32), None),
            (many(33), Some((33, 56))),
            (long(4_095), None),
            (long(4_096), Some((1, 4_097))),
        ] {
            assert_eq!(metadata.check().err(), error);
            assert_eq!(read(&mut metadata.encoded().unwrap()).is_none(), error.is_some());
        }
    }

    #[test]
    fn other_maps_are_refused() {
        let no_texts =
            codec::to_vec(&[("a", 1)].into_iter().collect::<std::collections::BTreeMap<_, _>>());
        for bad in [
            &no_texts.unwrap()[..],
            b"\x81\x01\xa1a",
            b"\x81\xa1a",
            b"\x81",
            b"\x80",
            b"\x90",
            b"\xc0",
            b"",
            b"\xdf\xff\xff\xff\xff",
            b"\x81\xa1a\xdb\xff\xff\xff\xff",
            b"\x81\xa1\xff\xa1a",
        ] {
            let expected = (bad == b"\x80").then_some(bad);
            assert_eq!(read(&mut &bad[..]), expected, "{bad:x?}");
        }
    }

    #[test]
    fn only_valid_trace_contexts_are_taken() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (text, is_valid) in [
            (valid, true),
            (&valid.replacen("00", "cc", 1), true),
            (&(valid.replacen("00", "cc", 1) + "-more"), true),
            (&(valid.to_owned() + "-more"), false),
            (&valid.replacen("00", "ff", 1), false),
            (&valid.to_uppercase(), false),
            (&valid[..54], false),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
            (&(valid.replacen("00", "cc", 1) + "-" + &"x".repeat(200)), false),
            ("\u{e4}0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("", false),
        ] {
            assert_eq!(is_trace_parent(text), is_valid, "{text}");
        }
        let encoded = codec::to_vec(&valid).unwrap();
        assert_eq!(trace_parent(&encoded), Some(valid));
        assert_eq!(trace_parent(b"\x01"), None);
        assert_eq!(trace_parent(b""), None);
    }
}
