//! Walking over MessagePack without decoding it: markers, lengths, and the end of a value.

use rmp::{Marker, decode};

use crate::codec::MAX_DEPTH;

pub(crate) const NIL: u8 = 0xc0;
pub(crate) const EMPTY_ARRAY: u8 = 0x90;
/// The marker of an integer that always takes four bytes, so that it can be overwritten in place.
pub(crate) const U32: u8 = 0xce;
pub(crate) const U64: u8 = 0xcf;

/// Reads an unsigned integer of any width. After `None` the caller must stop, because the marker of
/// another value may have been consumed.
pub(crate) fn read_u32(rest: &mut &[u8]) -> Option<u32> {
    decode::read_int(rest).ok()
}

pub(crate) fn read_str<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (text, after) = decode::read_str_from_slice(*rest).ok()?;
    *rest = after;
    Some(text)
}

/// Reads the bytes of a text or of a `bin`.
pub(crate) fn read_str_or_bin<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if let Some(text) = read_str(rest) {
        return Some(text.as_bytes());
    }
    let len = usize::try_from(decode::read_bin_len(rest).ok()?).ok()?;
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

/// Returns the length of the header of a text of `len` bytes.
pub(crate) fn str_header_len(len: usize) -> usize {
    match len {
        0..32 => 1,
        32..256 => 2,
        256..65_536 => 3,
        _ => 5,
    }
}

/// Writes the header of a text of `len` bytes with `put`.
fn put_str_header(len: usize, put: &mut impl FnMut(&[u8])) {
    let [.., b, a] = len.to_be_bytes();
    match len {
        0..32 => put(&[0xa0 | a]),
        32..256 => put(&[0xd9, a]),
        256..65_536 => put(&[0xda, b, a]),
        _ => {
            let len = u32::try_from(len).expect("no name has 4 GiB");
            put(&[0xdb]);
            put(&len.to_be_bytes());
        }
    }
}

/// Writes a text with `put`.
#[inline]
pub(crate) fn put_str(text: &str, put: &mut impl FnMut(&[u8])) {
    put_str_header(text.len(), put);
    put(text.as_bytes());
}

/// Returns true if `marker` begins an array or a map.
pub(crate) fn is_params_marker(marker: u8) -> bool {
    matches!(
        Marker::from_u8(marker),
        Marker::FixArray(_)
            | Marker::Array16
            | Marker::Array32
            | Marker::FixMap(_)
            | Marker::Map16
            | Marker::Map32
    )
}

/// Counts the params. Returns `None` if they are not a well-formed array or map, or if bytes follow
/// them.
pub(crate) fn count_params(params: &[u8]) -> Option<usize> {
    let mut rest = params;
    let count = decode::read_array_len(&mut rest).or_else(|_| {
        rest = params;
        decode::read_map_len(&mut rest)
    });
    let mut rest = params;
    skip_value(&mut rest)?;
    if !rest.is_empty() {
        return None;
    }
    usize::try_from(count.ok()?).ok()
}

/// Returns the encoded value of `key` in an encoded map.
pub(crate) fn find_key<'a>(mut map: &'a [u8], key: &str) -> Option<&'a [u8]> {
    for _ in 0..decode::read_map_len(&mut map).ok()? {
        let matches = read_str(&mut map)? == key;
        let value = map;
        skip_value(&mut map)?;
        if matches {
            return Some(&value[..value.len() - map.len()]);
        }
    }
    None
}

/// Moves `rest` behind one value of any kind. Returns `None` if the bytes end too early, nest too
/// deeply, or contain the reserved marker (`c1`).
#[inline]
pub(crate) fn skip_value(rest: &mut &[u8]) -> Option<()> {
    match skip_head(rest)? {
        0 => Some(()),
        values => skip_values(rest, values),
    }
}

/// Moves `rest` behind the values of an array or a map.
fn skip_values(rest: &mut &[u8], values: u64) -> Option<()> {
    // The number of values that are still to come on each level: in the array or map that the
    // protocol puts around values, and in the values. The array has a fixed length, so that no
    // input makes it grow.
    let mut open = [0u64; MAX_DEPTH + 1];
    let mut depth = 0;
    open[0] = values;
    loop {
        while open[depth] == 0 {
            if depth == 0 {
                return Some(());
            }
            depth -= 1;
        }
        open[depth] -= 1;
        let values = skip_head(rest)?;
        if values > 0 {
            depth += 1;
            *open.get_mut(depth)? = values;
        }
    }
}

/// Moves `rest` behind a value that contains no others, or to the first value in an array or a map.
/// Returns the number of values in it.
#[inline]
fn skip_head(rest: &mut &[u8]) -> Option<u64> {
    let marker = decode::read_marker(rest).ok()?;
    let (bytes, values) = size_behind(marker, rest)?;
    *rest = rest.get(bytes..)?;
    Some(values.unwrap_or(0))
}

/// Returns the number of plain bytes that follow `marker` or, for an array or a map, the number of
/// values. Reads its length field, if it has one, from `rest`.
fn size_behind(marker: Marker, rest: &mut &[u8]) -> Option<(usize, Option<u64>)> {
    let mut length = |width: usize| {
        let (field, after) = rest.split_at_checked(width)?;
        *rest = after;
        Some(field.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte)))
    };
    let bytes = match marker {
        Marker::Null | Marker::True | Marker::False | Marker::FixPos(_) | Marker::FixNeg(_) => 0,
        Marker::U8 | Marker::I8 => 1,
        Marker::U16 | Marker::I16 | Marker::FixExt1 => 2,
        Marker::FixExt2 => 3,
        Marker::U32 | Marker::I32 | Marker::F32 => 4,
        Marker::FixExt4 => 5,
        Marker::U64 | Marker::I64 | Marker::F64 => 8,
        Marker::FixExt8 => 9,
        Marker::FixExt16 => 17,
        Marker::FixStr(len) => len.into(),
        Marker::Str8 | Marker::Bin8 => length(1)?,
        Marker::Str16 | Marker::Bin16 => length(2)?,
        Marker::Str32 | Marker::Bin32 => length(4)?,
        Marker::Ext8 => length(1)? + 1,
        Marker::Ext16 => length(2)? + 1,
        Marker::Ext32 => length(4)?.saturating_add(1),
        Marker::FixArray(len) => return Some((0, Some(len.into()))),
        Marker::Array16 => return Some((0, Some(length(2)? as u64))),
        Marker::Array32 => return Some((0, Some(length(4)? as u64))),
        Marker::FixMap(len) => return Some((0, Some(2 * u64::from(len)))),
        Marker::Map16 => return Some((0, Some(2 * length(2)? as u64))),
        Marker::Map32 => return Some((0, Some(2 * length(4)? as u64))),
        Marker::Reserved => return None,
    };
    Some((bytes, None))
}
