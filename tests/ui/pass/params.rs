//! Every way to take a parameter.
#![deny(warnings, missing_docs, unreachable_pub)]
#![forbid(unsafe_code)]

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use rpc_core::{Client, RemoteFn, remote};

#[remote]
fn nothing() {}

#[remote]
fn owned(number: u32, text: String, map: HashMap<String, Vec<(u8, [u16; 2])>>) -> usize {
    number as usize + text.len() + map.len()
}

#[remote]
fn blobs(all: Vec<u8>, maybe: Option<Vec<u8>>, shared: Bytes, maybe_shared: Option<Bytes>) -> usize {
    all.len() + maybe.map_or(0, |it| it.len()) + shared.len() + maybe_shared.map_or(0, |it| it.len())
}

#[remote]
fn text(text: &str) -> usize {
    text.len()
}

#[remote]
fn raw(bytes: &[u8]) -> usize {
    bytes.len()
}

#[remote]
fn slice(numbers: &[u64]) -> u64 {
    numbers.iter().sum()
}

#[remote]
fn reference(map: &HashMap<String, u64>) -> usize {
    map.len()
}

#[remote]
fn several(text: &str, number: u8, bytes: &[u8], pair: &(u8, u8)) -> usize {
    text.len() + usize::from(number) + bytes.len() + usize::from(pair.0)
}

#[remote]
fn borrows_inside(text: Option<&str>) -> usize {
    text.map_or(0, str::len)
}

#[remote]
fn borrows_inside_several(raw: Option<&[u8]>, cow: Cow<'_, str>, pair: (&str, u8)) -> usize {
    raw.map_or(0, <[u8]>::len) + cow.len() + pair.0.len()
}

#[remote]
async fn borrows_behind_a_reference(texts: &[&str], one: &Option<&str>) -> usize {
    texts.len() + one.map_or(0, str::len)
}

#[remote]
fn patterns((a, b): (i32, i32), mut c: i32, _: i32, [d, ..]: [i32; 3], _e: i32) -> i32 {
    c += 1;
    a + b + c + d
}

fn calls(client: &Client) {
    let _ = nothing::call(client);
    let _ = nothing::map(client, [(), ()]);
    let _ = owned::call(client, 1, String::new(), HashMap::new());
    let _ = owned::map(client, Vec::new());
    let _ = blobs::call(client, vec![], Some(vec![]), Bytes::new(), None);
    let _ = text::map(client, ["a", "b"]);
    let _ = text::map(client, vec![String::new()]);
    let _ = raw::map(client, [b"a".to_vec()]);
    let _ = slice::call(client, &[1, 2]);
    let _ = slice::map(client, [vec![1, 2]]);
    let _ = reference::call(client, &HashMap::new());
    let _ = reference::map(client, [HashMap::new()]);
    let _ = several::map(client, [("a", 1, b"bytes", &(1, 2))]);
    let _ = several::map(client, [(String::new(), 1, vec![], (1, 2))]);
    let _ = borrows_inside::call(client, Some(&String::from("x")));
    let _ = borrows_inside::map(client, ["x".to_owned()].iter().map(|text| Some(text.as_str())));
    let _ = borrows_inside_several::notify(client, None, Cow::Borrowed("x"), ("a", 1));
    let _ = borrows_inside_several::map(client, [(None, "x".into(), ("a", 1))]);
    let _ = borrows_behind_a_reference::call(client, &["a"], &None);
    let _ = borrows_behind_a_reference::map(client, [(vec!["a"], Some("a"))]);
    let _ = patterns::call(client, (1, 2), 3, 4, [5, 6, 7], 8);
}

fn calls_own_their_arguments(client: &Client) -> impl Future + Send + 'static + use<> {
    text::call(client, &String::from("x"))
}

fn main() {
    let _ = (calls, calls_own_their_arguments);
    let names: Vec<_> = patterns::SIGNATURE
        .params
        .iter()
        .map(|param| param.name)
        .collect();
    assert_eq!(names, ["arg0", "c", "arg2", "arg3", "_e"]);
    let types: Vec<_> = several::SIGNATURE.params.iter().map(|param| param.ty).collect();
    assert_eq!(types, ["&str", "u8", "&[u8]", "&(u8, u8)"]);
}
