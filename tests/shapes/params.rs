//! The table of parameters.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use rpc_core::remote;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{Line, start, text};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plain<'a> {
    name: &'a str,
    data: &'a [u8],
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Copied<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    data: Cow<'a, [u8]>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Marked<'a> {
    #[serde(with = "serde_bytes")]
    data: &'a [u8],
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Part<'a> {
    Nothing,
    Data(&'a [u8]),
    Two(&'a [u8], &'a str),
    Named { data: &'a [u8] },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Guessed<'a> {
    Data(&'a [u8]),
    Number(u8),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Newtype<'a>(#[serde(borrow)] &'a [u8]);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Generic<T>(T);

pub(crate) type Blob<'a> = &'a [u8];

/// Each line is `name: type = a value, the value in Python;`.
macro_rules! params {
    ($($name:ident: $ty:ty = $value:expr, $python:literal;)*) => {
        $(mod $name {
            use super::*;

            #[remote]
            fn only(value: $ty) -> String {
                text(&value)
            }

            #[remote]
            async fn first(value: $ty, number: u8, more: &str) -> String {
                format!("{} {number} {more}", text(&value))
            }

            #[remote(inline)]
            fn last(number: u8, value: $ty) -> String {
                format!("{number} {}", text(&value))
            }

            fn sent() -> String {
                let value: $ty = $value;
                text(&value)
            }

            pub(super) fn line() -> Line {
                let (name, value) = (stringify!($name), sent());
                let call = |function: &str, arguments: String, result: String| {
                    [function.to_owned(), arguments, format!("{result:?}")]
                };
                Line {
                    name,
                    server: tests::server().serve::<only>().serve::<first>().serve::<last>(),
                    calls: vec![
                        call("only", format!("[{}]", $python), value.clone()),
                        call("first", format!("[{}, 7, 'x']", $python), format!("{value} 7 x")),
                        call("last", format!("[7, {}]", $python), format!("7 {value}")),
                        call("only", format!("{{'value': {}}}", $python), value.clone()),
                    ],
                }
            }

            #[tokio::test]
            async fn is_callable() {
                let (server, client) = start(line().server).await;
                let value = sent();
                assert_eq!(only::call(&client, $value).await.unwrap(), value);
                let first = first::call(&client, $value, 7, "x").await.unwrap();
                assert_eq!(first, format!("{value} 7 x"));
                assert_eq!(last::call(&client, 7, $value).await.unwrap(), format!("7 {value}"));
                server.shutdown().await;
            }
        })*

        pub(crate) fn lines() -> Vec<Line> {
            vec![$($name::line()),*]
        }
    };
}

params! {
    str_: &str = "ä", "'ä'";
    string: String = "ä".to_owned(), "'ä'";
    option_str: Option<&str> = Some("x"), "'x'";
    option_str_none: Option<&str> = None, "None";
    ref_ref_str: &&str = &"x", "'x'";
    ref_string: &String = &"x".to_owned(), "'x'";
    cow_str: Cow<'_, str> = Cow::from("x"), "'x'";
    box_str: Box<str> = Box::from("x"), "'x'";
    strs: &[&str] = &["a", ""], "['a', '']";
    vec_str: Vec<&str> = vec!["a"], "['a']";
    map_str: HashMap<&str, &str> = HashMap::from([("a", "b")]), "{'a': 'b'}";
    option_path: Option<&Path> = Some(Path::new("/a")), "'/a'";
    path: &Path = Path::new("/a"), "'/a'";
    ref_path: &PathBuf = &PathBuf::from("/a"), "'/a'";

    raw: &[u8] = &[0, 255], "b'\\0\\xff'";
    raw_empty: &[u8] = &[], "b''";
    vec_u8: Vec<u8> = vec![0, 255], "b'\\0\\xff'";
    vec_u8_as_list: Vec<u8> = vec![0, 255], "[0, 255]";
    ref_vec_u8: &Vec<u8> = &vec![0, 255], "b'\\0\\xff'";
    shared: Bytes = Bytes::from_static(&[0, 255]), "b'\\0\\xff'";
    ref_shared: &Bytes = &Bytes::from_static(&[0, 255]), "b'\\0\\xff'";
    box_u8: Box<[u8]> = Box::from([0, 255]), "[0, 255]";
    byte_buf: ByteBuf = ByteBuf::from([0, 255]), "b'\\0\\xff'";
    array_u8: [u8; 2] = [0, 255], "[0, 255]";
    array_u8_as_bytes: [u8; 2] = [0, 255], "b'\\0\\xff'";
    ref_array_u8: &[u8; 2] = &[0, 255], "[0, 255]";
    option_vec_u8: Option<Vec<u8>> = Some(vec![0, 255]), "b'\\0\\xff'";
    option_shared: Option<Bytes> = Some(Bytes::from_static(&[0, 255])), "b'\\0\\xff'";
    nested_vec_u8: Vec<Vec<u8>> = vec![vec![], vec![0, 255]], "[[], b'\\0\\xff']";

    option_bytes: Option<&[u8]> = Some(&[0, 255]), "b'\\0\\xff'";
    option_bytes_empty: Option<&[u8]> = Some(&[]), "b''";
    option_bytes_none: Option<&[u8]> = None, "None";
    option_option_bytes: Option<Option<&[u8]>> = Some(Some(&[1])), "b'\\1'";
    tuple: (&str, &[u8]) = ("x", &[0, 255]), "['x', b'\\0\\xff']";
    tuple_of_one: (&[u8],) = (&[200],), "[b'\\xc8']";
    tuple_nested: (u8, (Option<&[u8]>, &[u8])) = (1, (Some(&[2]), &[3])), "[1, [b'\\2', b'\\3']]";
    vec_bytes: Vec<&[u8]> = vec![&[], &[0, 255]], "[b'', b'\\0\\xff']";
    slice_bytes: &[&[u8]] = &[&[], &[0, 255]], "[b'', b'\\0\\xff']";
    slice_option_bytes: &[Option<&[u8]>] = &[None, Some(&[1])], "[None, b'\\1']";
    slice_tuples: &[(&str, &[u8])] = &[("a", &[1])], "[['a', b'\\1']]";
    ref_vec_bytes: &Vec<&[u8]> = &vec![&[1]], "[b'\\1']";
    ref_ref_bytes: &&[u8] = &&[0, 255][..], "b'\\0\\xff'";
    ref_option_bytes: &Option<&[u8]> = &Some(&[0, 255][..]), "b'\\0\\xff'";
    array_bytes: [&[u8]; 2] = [&[1], &[]], "[b'\\1', b'']";
    box_bytes: Box<&[u8]> = Box::new(&[0, 255]), "b'\\0\\xff'";
    box_vec_bytes: Box<Vec<&[u8]>> = Box::new(vec![&[1]]), "[b'\\1']";
    map_bytes: BTreeMap<&str, &[u8]> = BTreeMap::from([("a", &[0, 255][..])]), "{'a': b'\\0\\xff'}";
    map_by_bytes: HashMap<&[u8], u8> = HashMap::from([(&[0, 255][..], 1)]), "{b'\\0\\xff': 1}";
    set_bytes: HashSet<&[u8]> = HashSet::from([&[1, 2][..]]), "[b'\\1\\2']";
    result_bytes: Result<&[u8], &str> = Ok(&[0, 255]), "{'Ok': b'\\0\\xff'}";
    cow_bytes: Cow<'_, [u8]> = Cow::from(&[0, 255][..]), "b'\\0\\xff'";
    cow_bytes_as_list: Cow<'_, [u8]> = Cow::from(&[0, 255][..]), "[0, 255]";
    slice_cow_bytes: &[Cow<'_, [u8]>] = &[Cow::from(&[1][..])], "[b'\\1']";
    cow_beside_vec: (Cow<'_, str>, Vec<u8>) = (Cow::from("x"), vec![0, 255]), "['x', [0, 255]]";
    marked_bytes: Option<&serde_bytes::Bytes> = Some(serde_bytes::Bytes::new(&[1])), "b'\\1'";
    alias_bytes: Option<Blob<'_>> = Some(&[0, 255]), "b'\\0\\xff'";

    own_plain: Plain<'_> = Plain { name: "x", data: &[0, 255] }, "{'name': 'x', 'data': b'\\0\\xff'}";
    own_plain_empty: Plain<'_> = Plain { name: "", data: &[] }, "['', b'']";
    own_ref: &Plain<'_> = &Plain { name: "x", data: &[1] }, "{'name': 'x', 'data': b'\\1'}";
    own_slice: &[Plain<'_>] = &[Plain { name: "x", data: &[1] }], "[{'name': 'x', 'data': b'\\1'}]";
    own_copied: Copied<'_> = Copied { name: "x".into(), data: [1][..].into() }, "{'name': 'x', 'data': b'\\1'}";
    own_marked: Marked<'_> = Marked { data: &[0, 255] }, "{'data': b'\\0\\xff'}";
    own_newtype: Newtype<'_> = Newtype(&[0, 255]), "b'\\0\\xff'";
    own_generic: Generic<&[u8]> = Generic(&[0, 255]), "b'\\0\\xff'";
    own_unit_variant: Part<'_> = Part::Nothing, "'Nothing'";
    own_newtype_variant: Part<'_> = Part::Data(&[0, 255]), "{'Data': b'\\0\\xff'}";
    own_tuple_variant: Part<'_> = Part::Two(&[1], "x"), "{'Two': [b'\\1', 'x']}";
    own_struct_variant: Part<'_> = Part::Named { data: &[1] }, "{'Named': {'data': b'\\1'}}";
    own_untagged: Guessed<'_> = Guessed::Data(&[1]), "b'\\1'";

    numbers: &[u64] = &[1, u64::MAX], "[1, 2**64 - 1]";
    u8_: u8 = 255, "255";
    i64_: i64 = i64::MIN, "-2**63";
    f64_: f64 = 1.5, "1.5";
    f64_as_int: f64 = 2.0, "2";
    char_: char = 'ä', "'ä'";
    bool_: bool = true, "True";
    unit: () = (), "None";
    ref_unit: &() = &(), "None";
    option_unit: Option<()> = None, "None";
    vec_option: Vec<Option<u8>> = vec![None, Some(1)], "[None, 1]";
    map_by_number: BTreeMap<u64, bool> = BTreeMap::from([(1, true)]), "{1: True}";
    map_by_tuple: BTreeMap<(u8, u8), u8> = BTreeMap::from([((1, 2), 3)]), "{(1, 2): 3}";
    u128_: u128 = u128::MAX, "(2**128 - 1).to_bytes(16)";
    u128_as_int: u128 = 7, "7";
    i128_: i128 = -1, "(-1).to_bytes(16, signed=True)";
    i128_as_int: i128 = -7, "-7";
}
