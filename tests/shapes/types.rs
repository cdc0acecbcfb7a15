//! The table of docs/TYPES.md, which is made of real encodings.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use jiff::civil;
use rpc_core::remote;
use rust_decimal::Decimal;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use uuid::Uuid;

use crate::{
    Line,
    results::{Adjacent, Flat, Guessed, Pair, Point, Shape, Tagged, Unit},
    start, text,
};

/// A value as Python shows it, behind its kind in MessagePack.
struct Shown {
    kind: &'static str,
    python: String,
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Show;
        fn shown<E>(kind: &'static str, python: impl Into<String>) -> Result<Shown, E> {
            Ok(Shown { kind, python: python.into() })
        }
        impl<'de> Visitor<'de> for Show {
            type Value = Shown;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_unit<E>(self) -> Result<Shown, E> {
                shown("nil", "None")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Shown, E> {
                shown("bool", if value { "True" } else { "False" })
            }
            fn visit_u64<E>(self, value: u64) -> Result<Shown, E> {
                shown("int", value.to_string())
            }
            fn visit_i64<E>(self, value: i64) -> Result<Shown, E> {
                shown("int", value.to_string())
            }
            fn visit_f32<E>(self, value: f32) -> Result<Shown, E> {
                shown("float", format!("{value:?}"))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Shown, E> {
                shown("float", format!("{value:?}"))
            }
            fn visit_str<E>(self, value: &str) -> Result<Shown, E> {
                shown("str", format!("'{value}'"))
            }
            fn visit_bytes<E>(self, value: &[u8]) -> Result<Shown, E> {
                shown("bin", format!("b'{}'", value.escape_ascii()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shown, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = seq.next_element::<Shown>()? {
                    parts.push(part.python);
                }
                shown("array", format!("[{}]", parts.join(", ")))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shown, A::Error> {
                let mut parts = Vec::new();
                while let Some((key, value)) = map.next_entry::<Shown, Shown>()? {
                    // Only a tuple can be a key in Python.
                    let key = key.python.replace('[', "(").replace(']', ")");
                    parts.push(format!("{key}: {}", value.python));
                }
                shown("map", format!("{{{}}}", parts.join(", ")))
            }
        }
        deserializer.deserialize_any(Show)
    }
}

/// Each line is `name: the type in words, type = a value, [what Python may send instead];`, and
/// each section has a name.
macro_rules! types {
    ($($section:literal { $($name:ident: $words:literal, $ty:ty = $value:expr, [$($also:literal),*];)* })*) => {
        $($(mod $name {
            use super::*;

            fn made() -> $ty {
                $value
            }

            #[remote]
            fn gets() -> $ty {
                made()
            }

            #[remote]
            fn sends(value: $ty) -> String {
                text(&value)
            }

            pub(super) async fn shown() -> Shown {
                let (server, client) = start(tests::server().serve::<gets>()).await;
                let shown = client.call_dynamic("gets", ()).await.unwrap();
                assert_eq!(text(&gets::call(&client).await.unwrap()), text(&made()));
                server.shutdown().await;
                shown
            }

            pub(super) async fn line() -> Line {
                let shown = shown().await.python;
                let value = format!("{:?}", text(&made()));
                let mut calls = vec![["gets".to_owned(), "[]".to_owned(), shown.clone()]];
                for sent in [shown.as_str(), $($also),*] {
                    calls.push(["sends".to_owned(), format!("[{sent}]"), value.clone()]);
                }
                let server = tests::server().serve::<gets>().serve::<sends>();
                Line { name: stringify!($name), server, calls }
            }
        })*)*

        pub(crate) async fn lines() -> Vec<Line> {
            vec![$($($name::line().await),*),*]
        }

        /// Makes the tables of docs/TYPES.md.
        async fn tables() -> String {
            let mut out = String::new();
            $(
                out.push_str(concat!("\n### ", $section, "\n"));
                out.push_str("| Rust | example | MessagePack | in Python | Python may also send |\n");
                out.push_str("|---|---|---|---|---|\n");
                $(
                    let Shown { kind, python } = $name::shown().await;
                    let also: &[&str] = &[$($also),*];
                    let also: Vec<_> = also.iter().map(|also| format!("`{also}`")).collect();
                    let shown = example(stringify!($value));
                    out.push_str(&format!(
                        "| {} | {shown} | {kind} | `{python}` | {} |\n", $words, also.join(", ")
                    ));
                )*
            )*
            out
        }
    };
}

/// Formats the example of a line as code. The text comes from the compiler, which may wrap it.
fn example(source: &str) -> String {
    let words: Vec<_> = source.split_whitespace().collect();
    format!("`{}`", words.join(" "))
}

types! {
    "Numbers" {
        unsigned: "`u8` to `u64`, `usize`", u64 = 255, [];
        signed: "`i8` to `i64`, `isize`", i64 = -1, [];
        u128_: "`u128`", u128 = 258, ["258", "(258).to_bytes(16)"];
        i128_: "`i128`", i128 = -2, ["-2", "(-2).to_bytes(16, signed=True)"];
        f32_: "`f32`", f32 = 1.5, [];
        f64_: "`f64`", f64 = 2.0, ["2"];
        bool_: "`bool`", bool = true, [];
        decimal: "`rust_decimal::Decimal`", Decimal = Decimal::new(150, 2), ["str(decimal.Decimal('1.50'))"];
    }
    "Text and bytes" {
        char_: "`char`", char = 'ä', [];
        string: "`String`, `&str`, `Box<str>`, `Cow<str>`", String = "ä".to_owned(), [];
        path: "`PathBuf`", PathBuf = PathBuf::from("/tmp"), ["str(pathlib.Path('/tmp'))"];
        owned_bytes: "`Vec<u8>` as a parameter or result", Vec<u8> = vec![0, 255], ["bytearray([0, 255])", "[0, 255]"];
        shared: "`bytes::Bytes`", Bytes = Bytes::from_static(b"\0\xff"), [];
        nested: "`Vec<u8>` inside another type", (Vec<u8>,) = (vec![0, 255],), ["[b'\\x00\\xff']"];
        boxed: "`Box<[u8]>`, `Cow<'static, [u8]>`", Cow<'static, [u8]> = Cow::from(&[0, 255]), ["b'\\x00\\xff'"];
        array_u8: "`[u8; N]`", [u8; 2] = [0, 255], ["b'\\x00\\xff'"];
    }
    "Nothing, one or many" {
        unit: "`()`", () = (), [];
        none: "`Option<T>`", Option<u8> = None, [];
        some: "`Option<T>`", Option<u8> = Some(1), [];
        tuple: "tuples", (u8, bool) = (1, true), ["(1, True)"];
        list: "`Vec<T>`, `[T; N]`, `&[T]`", Vec<u16> = vec![1, 2], ["(1, 2)"];
        set: "`HashSet<T>`, `BTreeSet<T>`", BTreeSet<u8> = BTreeSet::from([1, 2]), ["list({1, 2})"];
        map: "`HashMap<String, T>`, `BTreeMap<String, T>`", HashMap<String, u8> = HashMap::from([("a".to_owned(), 1)]), [];
        map_by_number: "`HashMap<u64, T>`", HashMap<u64, u8> = HashMap::from([(7, 1)]), [];
        map_by_pair: "`BTreeMap<(A, B), T>`", BTreeMap<(u8, u8), u8> = BTreeMap::from([((1, 2), 3)]), [];
        json: "`serde_json::Value`", serde_json::Value = serde_json::json!({"a": [1, null]}), [];
    }
    "Structs and enums" {
        fields: "`struct Point { x: f64, label: Option<String> }`", Point = Point { x: 0.5, label: None }, ["{'x': 0.5}", "[0.5, None]"];
        flat: "a struct with `#[serde(flatten)]`", Flat = Flat { a: 1, more: BTreeMap::from([("b".to_owned(), 2)]) }, [];
        pair: "`struct Pair(u8, String)`", Pair = Pair(1, "x".to_owned()), [];
        unit_struct: "`struct Unit`", Unit = Unit, ["None"];
        unit_variant: "an enum, unit variant", Shape = Shape::Empty, ["{'Empty': None}"];
        newtype_variant: "newtype variant", Shape = Shape::Circle(1), [];
        tuple_variant: "tuple variant", Shape = Shape::Line(1, 2), [];
        struct_variant: "struct variant", Shape = Shape::Square { side: 1 }, ["{'Square': [1]}"];
        tagged: "`#[serde(tag = \"kind\")]`", Tagged = Tagged::Circle { radius: 1, data: vec![2] }, [];
        adjacent: "`#[serde(tag = \"kind\", content = \"value\")]`", Adjacent = Adjacent::Circle(1), [];
        untagged: "`#[serde(untagged)]`", Guessed = Guessed::Number(1), [];
        result: "`Result<A, B>` inside another type", Vec<Result<u8, String>> = vec![Ok(1), Err("no".to_owned())], [];
    }
    "Time" {
        duration: "`std::time::Duration`", Duration = Duration::from_millis(1_500), ["[1, 500000000]"];
        system_time: "`std::time::SystemTime`", SystemTime = SystemTime::UNIX_EPOCH + Duration::from_secs(1), ["[1, 0]"];
        chrono_utc: "`chrono::DateTime<Utc>`", chrono::DateTime<chrono::Utc> = chrono::DateTime::UNIX_EPOCH, ["datetime.datetime.fromtimestamp(0, datetime.timezone.utc).isoformat()"];
        chrono_date: "`chrono::NaiveDate`", chrono::NaiveDate = chrono::NaiveDate::from_ymd_opt(2026, 11, 26).unwrap(), ["str(datetime.date(2026, 11, 26))"];
        jiff_timestamp: "`jiff::Timestamp`", jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH, ["datetime.datetime.fromtimestamp(0, datetime.timezone.utc).isoformat()"];
        jiff_date: "`jiff::civil::Date`", civil::Date = civil::date(2026, 11, 26), ["str(datetime.date(2026, 11, 26))"];
        time_instant: "`time::OffsetDateTime`", time::OffsetDateTime = time::OffsetDateTime::UNIX_EPOCH, [];
        time_date: "`time::Date`", time::Date = time::Date::from_ordinal_date(2026, 330).unwrap(), [];
    }
    "Addresses and names" {
        uuid_: "`uuid::Uuid`", Uuid = Uuid::from_u128(258), ["uuid.UUID(int=258).bytes", "str(uuid.UUID(int=258))"];
        ipv4: "`Ipv4Addr`", Ipv4Addr = Ipv4Addr::LOCALHOST, ["'127.0.0.1'", "ipaddress.ip_address('127.0.0.1').packed"];
        ip: "`IpAddr`", IpAddr = IpAddr::from([127, 0, 0, 1]), ["str(ipaddress.ip_address('127.0.0.1'))"];
        socket: "`SocketAddr`", SocketAddr = SocketAddr::from(([127, 0, 0, 1], 80)), ["'127.0.0.1:80'"];
    }
}

#[tokio::test]
async fn types_md_shows_real_encodings() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/TYPES.md");
    let document = fs::read_to_string(path).unwrap();
    let (_, shown) = document.split_once("<!-- tables -->\n").expect("the tables begin");
    let (shown, _) = shown.split_once("\n<!-- end of tables -->").expect("the tables end");
    let tables = tables().await;
    assert!(shown == tables, "docs/TYPES.md differs from the real tables:\n{tables}");
}

#[derive(Debug, serde::Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Buffered {
    Large { number: u128 },
    Address { ip: IpAddr },
    Bytes { data: Vec<u8> },
}

#[remote]
fn buffered(number: bool) -> Buffered {
    if number { Buffered::Large { number: 1 } } else { Buffered::Address { ip: [0; 4].into() } }
}

#[remote]
fn kind(value: Buffered) -> String {
    text(&value)
}

/// These types compile, and cannot be called. docs/TYPES.md says so.
#[tokio::test]
async fn serde_cannot_decode_these_from_its_buffer() {
    let builder = tests::server().serve::<buffered>().serve::<kind>();
    let (server, client) = start(builder).await;
    for number in [true, false] {
        let error = buffered::call(&client, number).await.unwrap_err();
        assert_eq!(error.kind(), rpc_core::ErrorKind::Protocol, "{error:#}");
    }
    let bin = BTreeMap::from(
        [("kind", &b"Bytes"[..]), ("data", b"x")]
            .map(|(key, value)| (key, serde_bytes::Bytes::new(value))),
    );
    assert!(client.call_dynamic::<String>("kind", (bin,)).await.is_err());
    // As text and as an array they are accepted.
    let text = BTreeMap::from([("kind", "Address"), ("ip", "127.0.0.1")]);
    client.call_dynamic::<String>("kind", (text,)).await.unwrap();
    kind::call(&client, Buffered::Bytes { data: vec![1] }).await.unwrap();
    server.shutdown().await;
}
