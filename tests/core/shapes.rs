//! Parameters and results of every shape.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use bytes::Bytes;
use rpc_core::{Context, remote};
use serde::{Deserialize, Serialize};
use tests::Gate;

use crate::functions::Fixture;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f64,
    #[serde(default)]
    label: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle { center: Point, radius: f64 },
    Line(Point, Point),
}

#[remote]
fn nothing() {}

#[remote]
async fn nothing_async() {}

#[remote]
fn reversed(data: &[u8]) -> Vec<u8> {
    data.iter().rev().copied().collect()
}

#[remote]
async fn reversed_async(data: &[u8], text: &str) -> (Bytes, String) {
    tokio::task::yield_now().await;
    (data.iter().rev().copied().collect(), text.chars().rev().collect())
}

/// Returns true if both parameters are borrowed from one buffer, the text directly behind the data.
#[remote]
fn are_borrowed(data: &[u8], text: &str) -> bool {
    // The one byte between them is the header of the text.
    data.as_ptr_range().end.wrapping_add(1) == text.as_ptr()
}

#[remote]
fn moved(point: &Point, by: (f64, f64)) -> Point {
    Point { x: point.x + by.0, y: point.y + by.1, ..point.clone() }
}

#[remote]
fn sum(numbers: &[i64], mut start: i64, (a, b): (i64, i64)) -> i64 {
    start += a + b;
    numbers.iter().sum::<i64>() + start
}

#[remote]
fn same_shape(shape: Shape) -> Shape {
    shape
}

#[remote]
fn optional(a: u8, b: Option<u8>, c: Option<Bytes>) -> (u8, Option<u8>, Option<Bytes>) {
    (a, b, c)
}

#[remote]
fn maybe_bytes(present: bool) -> Option<Vec<u8>> {
    present.then(|| vec![0, 255])
}

#[remote]
fn lengths(words: Vec<Cow<'_, str>>, first: Option<&str>) -> HashMap<String, usize> {
    words
        .iter()
        .map(|word| (word.to_string(), word.len()))
        .chain(first.map(|word| (word.to_owned(), 0)))
        .collect()
}

#[remote]
fn r#match(r#type: String) -> String {
    r#type
}

#[remote]
fn bytes_or_error(ok: bool) -> Result<Bytes, String> {
    if ok { Ok(Bytes::from_static(&[1, 2, 3])) } else { Err("as asked".to_owned()) }
}

type Fallible<T> = std::result::Result<T, String>;

mod alias {
    pub(super) type Result<T> = std::result::Result<T, String>;
}

#[remote]
fn aliased(ok: bool) -> alias::Result<u8> {
    let inner: Fallible<u8> = if ok { Ok(1) } else { Err("no".to_owned()) };
    inner
}

#[remote]
fn everything(
    #[state] gate: &Gate,
    a: u8,
    #[context] cx: &Context,
    #[state] shared: Arc<Gate>,
    b: u8,
) -> (u8, bool, bool, String) {
    (a + b, std::ptr::eq(gate, &raw const *shared), cx.peer().is_empty(), cx.function().to_owned())
}

#[tokio::test]
async fn values_of_every_shape_round_trip() {
    let fixture = Fixture::tcp().await;
    let client = &fixture.client;
    nothing::call(client).await.unwrap();
    nothing_async::call(client).await.unwrap();
    assert_eq!(reversed::call(client, b"abc").await.unwrap(), b"cba");
    assert_eq!(reversed::call(client, b"").await.unwrap(), b"");
    assert!(are_borrowed::call(client, b"data", "text").await.unwrap());
    let (data, text) = reversed_async::call(client, b"ab", "äö").await.unwrap();
    assert_eq!((&data[..], text.as_str()), (&b"ba"[..], "öä"));
    let point = Point { x: 1.5, y: -2.0, label: Some("p".to_owned()) };
    let expected = Point { x: 2.5, y: -1.0, ..point.clone() };
    assert_eq!(moved::call(client, &point, (1.0, 1.0)).await.unwrap(), expected);
    assert_eq!(sum::call(client, &[1, 2, 3], 10, (100, 200)).await.unwrap(), 316);
    for shape in [
        Shape::Empty,
        Shape::Circle { center: point.clone(), radius: 1.0 },
        Shape::Line(point.clone(), Point { label: None, ..point }),
    ] {
        assert_eq!(same_shape::call(client, shape.clone()).await.unwrap(), shape);
    }
    let given = optional::call(client, 1, Some(2), Some(Bytes::from_static(b"x"))).await.unwrap();
    assert_eq!(given, (1, Some(2), Some(Bytes::from_static(b"x"))));
    assert_eq!(maybe_bytes::call(client, true).await.unwrap(), Some(vec![0, 255]));
    assert_eq!(maybe_bytes::call(client, false).await.unwrap(), None);
    let lengths = lengths::call(client, vec!["a".into(), "bb".into()], Some("c")).await.unwrap();
    assert_eq!(
        lengths,
        HashMap::from([("a".to_owned(), 1), ("bb".to_owned(), 2), ("c".to_owned(), 0)])
    );
    assert_eq!(r#match::call(client, "raw".to_owned()).await.unwrap(), "raw");
    assert_eq!(bytes_or_error::call(client, true).await.unwrap(), &[1, 2, 3][..]);
    assert_eq!(
        bytes_or_error::call(client, false).await.unwrap_err().failed().unwrap(),
        "as asked"
    );
    assert_eq!(aliased::call(client, true).await.unwrap(), 1);
    assert_eq!(aliased::call(client, false).await.unwrap_err().failed().unwrap(), "no");
    let all = everything::call(client, 1, 2).await.unwrap();
    assert_eq!(all, (3, true, false, "everything".to_owned()));
    fixture.end().await;
}

#[tokio::test]
async fn missing_trailing_options_are_none() {
    let fixture = Fixture::tcp().await;
    type Given = (u8, Option<u8>, Option<Vec<u8>>);
    let client = &fixture.client;
    assert_eq!(client.call_dynamic::<Given>("optional", (1,)).await.unwrap(), (1, None, None));
    let named = HashMap::from([("a", 1)]);
    assert_eq!(client.call_dynamic::<Given>("optional", named).await.unwrap(), (1, None, None));
    fixture.end().await;
}

#[tokio::test]
async fn raw_identifiers_are_sent_without_prefix() {
    let fixture = Fixture::tcp().await;
    let named = HashMap::from([("type", "x")]);
    assert_eq!(fixture.client.call_dynamic::<String>("match", named).await.unwrap(), "x");
    fixture.end().await;
}
