//! The tables of results and errors.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    path::PathBuf,
};

use bytes::Bytes;
use rpc_core::remote;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{Line, start, text};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unit;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pair(pub(crate) u8, pub(crate) String);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) label: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Shape {
    Empty,
    Circle(u8),
    Line(u8, u8),
    Square { side: u8 },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub(crate) enum Tagged {
    Empty,
    Circle { radius: u8, data: Vec<u8> },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value")]
pub(crate) enum Adjacent {
    Circle(u8),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Guessed {
    Text(String),
    Number(u8),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Flat {
    pub(crate) a: u8,
    #[serde(flatten)]
    pub(crate) more: BTreeMap<String, u8>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failed<T>(T);

impl<T: fmt::Debug> fmt::Display for Failed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed: {:?}", self.0)
    }
}

mod alias {
    pub(super) type Result<T> = std::result::Result<T, String>;
}

/// Each line is `name: type = a value, the value in Python;`.
macro_rules! results {
    ($($name:ident: $ty:ty = $value:expr, $python:literal;)*) => {
        $(mod $name {
            use super::*;

            fn made() -> $ty {
                $value
            }

            #[remote]
            fn whole() -> $ty {
                made()
            }

            #[remote]
            async fn ok() -> Result<$ty, String> {
                Ok(made())
            }

            #[remote(inline)]
            fn option() -> Option<$ty> {
                Some(made())
            }

            #[remote(inline)]
            fn fails() -> Result<u8, Failed<$ty>> {
                Err(Failed(made()))
            }

            pub(super) fn line() -> Line {
                let server = tests::server().serve::<whole>().serve::<ok>();
                Line {
                    name: stringify!($name),
                    server: server.serve::<option>().serve::<fails>(),
                    calls: ["whole", "ok", "option", "fails"]
                        .map(|name| [name, "[]", $python].map(str::to_owned))
                        .to_vec(),
                }
            }

            #[tokio::test]
            async fn is_callable() {
                let (server, client) = start(line().server).await;
                let value = text(&made());
                assert_eq!(text(&whole::call(&client).await.unwrap()), value);
                assert_eq!(text(&ok::call(&client).await.unwrap()), value);
                let option = option::call(&client).await.unwrap();
                assert_eq!(option.map_or("None".to_owned(), |value| text(&value)), value);
                let error = fails::call(&client).await.unwrap_err().failed().unwrap();
                assert_eq!(text(&error.0), value);
                server.shutdown().await;
            }
        })*

        pub(crate) fn lines() -> Vec<Line> {
            vec![$($name::line()),*]
        }
    };
}

results! {
    string: String = "ä".to_owned(), "'ä'";
    cow_str: Cow<'static, str> = "x".into(), "'x'";
    box_str: Box<str> = "x".into(), "'x'";
    path: PathBuf = "/a".into(), "'/a'";
    vec_u8: Vec<u8> = vec![0, 255], "b'\\0\\xff'";
    vec_u8_empty: Vec<u8> = vec![], "b''";
    shared: Bytes = Bytes::from_static(&[0, 255]), "b'\\0\\xff'";
    byte_buf: ByteBuf = ByteBuf::from([0, 255]), "b'\\0\\xff'";
    option_vec_u8: Option<Vec<u8>> = Some(vec![0, 255]), "b'\\0\\xff'";
    option_none: Option<Vec<u8>> = None, "None";
    box_u8: Box<[u8]> = Box::from([0, 255]), "[0, 255]";
    cow_u8: Cow<'static, [u8]> = Cow::from(&[0, 255][..]), "[0, 255]";
    array_u8: [u8; 2] = [0, 255], "[0, 255]";
    nested_vec_u8: Vec<Vec<u8>> = vec![vec![], vec![0, 255]], "[[], [0, 255]]";
    tuple: (u8, Vec<u8>) = (1, vec![0, 255]), "[1, [0, 255]]";
    u8_: u8 = 255, "255";
    i64_: i64 = i64::MIN, "-2**63";
    f32_: f32 = 1.5, "1.5";
    char_: char = 'ä', "'ä'";
    bool_: bool = false, "False";
    u128_: u128 = u128::MAX, "(2**128 - 1).to_bytes(16)";
    i128_: i128 = -1, "(-1).to_bytes(16, signed=True)";
    map: HashMap<String, u8> = HashMap::from([("a".to_owned(), 1)]), "{'a': 1}";
    map_by_number: HashMap<u64, u8> = HashMap::from([(1, 2)]), "{1: 2}";
    set: BTreeSet<u8> = BTreeSet::from([1, 200]), "[1, 200]";
    results: Vec<Result<u8, String>> = vec![Ok(1), Err("no".to_owned())], "[{'Ok': 1}, {'Err': 'no'}]";
    unit_struct: Unit = Unit, "[]";
    pair: Pair = Pair(1, "x".to_owned()), "[1, 'x']";
    point: Point = Point { x: 0.5, label: None }, "{'x': 0.5, 'label': None}";
    unit_variant: Shape = Shape::Empty, "'Empty'";
    newtype_variant: Shape = Shape::Circle(1), "{'Circle': 1}";
    tuple_variant: Shape = Shape::Line(1, 2), "{'Line': [1, 2]}";
    struct_variant: Shape = Shape::Square { side: 1 }, "{'Square': {'side': 1}}";
    tagged_unit: Tagged = Tagged::Empty, "{'kind': 'Empty'}";
    tagged: Tagged = Tagged::Circle { radius: 1, data: vec![1, 200] }, "{'kind': 'Circle', 'radius': 1, 'data': [1, 200]}";
    adjacent: Adjacent = Adjacent::Circle(1), "{'kind': 'Circle', 'value': 1}";
    untagged_text: Guessed = Guessed::Text("x".to_owned()), "'x'";
    untagged_number: Guessed = Guessed::Number(1), "1";
    flat: Flat = Flat { a: 1, more: BTreeMap::from([("b".to_owned(), 2)]) }, "{'a': 1, 'b': 2}";
}

#[remote]
async fn aliased() -> alias::Result<Vec<u8>> {
    Ok(vec![0, 255])
}

#[tokio::test]
async fn result_behind_an_alias_is_callable() {
    let (server, client) = start(tests::server().serve::<aliased>()).await;
    assert_eq!(aliased::call(&client).await.unwrap(), [0, 255]);
    server.shutdown().await;
}
