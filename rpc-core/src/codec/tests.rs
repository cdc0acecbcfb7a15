//! Tests of encoding and decoding.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use bytes::Bytes;
use serde::Serialize;

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
    for behind in
        [&b"\x07"[..], b"\x91", b"\x81", b"\x92\x01", b"\xcd", b"\xa1", b"\xc7", b"\xd4", b"\xc1"]
    {
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
    let mut fits = vec![0x91; MAX_DEPTH + 1];
    fits.push(0xc0);
    from_slice::<IgnoredAny>(&fits).unwrap();
    fits.insert(0, 0x91);
    from_slice::<IgnoredAny>(&fits).unwrap_err();
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
fn error_says_what_was_expected_and_what_was_found() {
    fn error<T: serde::de::DeserializeOwned + std::fmt::Debug>(bytes: &[u8]) -> String {
        from_slice::<T>(bytes).unwrap_err().to_string()
    }
    assert_eq!(error::<i64>(b"\xa1x"), "invalid type: string \"x\", expected i64");
    assert_eq!(error::<u8>(b"\x90"), "invalid type: sequence, expected u8");
    assert_eq!(error::<u8>(b"\xcd\x01\0"), "invalid value: integer `256`, expected u8");
    assert_eq!(error::<bool>(b"\x01"), "invalid type: integer `1`, expected a boolean");
    assert_eq!(error::<f32>(b"\x80"), "invalid type: map, expected f32");
    assert_eq!(error::<String>(b"\x05"), "invalid type: integer `5`, expected a string");
    let expected = "invalid type: string \"x\", expected u128, as an integer or as 16 bytes";
    assert_eq!(error::<u128>(b"\xa1x"), expected);
    assert_eq!(error::<serde_bytes::ByteBuf>(b"\xc3").matches('\n').count(), 0);
    let shown = error::<Known>(b"\xa2\x1b\n");
    assert!(shown.contains("`\\u{1b}\\n`"), "{shown}");
}

#[derive(Debug, serde::Deserialize)]
enum Known {}

#[test]
fn bytes_of_another_length_are_refused() {
    use std::net::{Ipv4Addr, Ipv6Addr};
    assert_eq!(from_slice::<[u8; 2]>(b"\xc4\x02\x01\x02").unwrap(), [1, 2]);
    assert_eq!(from_slice::<Ipv4Addr>(b"\xc4\x04\x7f\0\0\x01").unwrap(), Ipv4Addr::LOCALHOST);
    for bytes in [&b"\xc4\x03\x01\x02\x03"[..], b"\x93\x01\x02\x03", b"\xc4\x01\x01"] {
        from_slice::<[u8; 2]>(bytes).unwrap_err();
        from_slice::<(u8, u8)>(bytes).unwrap_err();
    }
    let v6 = to_vec(&serde_bytes::Bytes::new(&Ipv6Addr::LOCALHOST.octets())).unwrap();
    from_slice::<Ipv4Addr>(&v6).unwrap_err();
}

#[test]
fn numbers_of_128_bits_are_integers_or_16_bytes() {
    for number in [0, 1, u128::from(u64::MAX), u128::MAX] {
        assert_eq!(from_slice::<u128>(&to_vec(&number).unwrap()).unwrap(), number);
    }
    for number in [i128::MIN, -1, 0, i128::MAX] {
        assert_eq!(from_slice::<i128>(&to_vec(&number).unwrap()).unwrap(), number);
    }
    assert_eq!(from_slice::<u128>(b"\x07").unwrap(), 7);
    assert_eq!(from_slice::<i128>(b"\xff").unwrap(), -1);
    for bytes in [&b"\xff"[..], b"\xc4\x0f000000000000000", b"\x90"] {
        from_slice::<u128>(bytes).unwrap_err();
    }
}

#[test]
fn long_input_is_quoted_in_part() {
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
