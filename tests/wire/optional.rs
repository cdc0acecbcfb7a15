//! Arguments that are `None` at the end of the params are not sent, so that a parameter can be
//! added to a function whose servers do not know it yet.

use std::sync::Arc;

use bytes::Bytes;
use rpc_core::{Call, ErrorKind, RemoteFn, remote};
use tests::RawServer;

use crate::{contains, server};

type Alias = Option<u8>;

#[remote]
fn only(a: Option<u8>);

#[remote]
fn several(a: u8, b: Alias, c: Option<Option<u8>>, d: &Option<String>, e: Option<Vec<u8>>);

#[remote]
fn blobs(a: Option<Vec<u8>>, b: Option<Bytes>);

#[remote]
fn required_last(a: Option<u8>, b: u8);

#[remote]
fn text_last(a: Option<u8>, b: &str);

#[remote]
fn unit_last(a: Option<u8>, b: ());

async fn params<F: RemoteFn>(peer: &mut RawServer, call: Call<F>) -> Vec<u8> {
    let call = tokio::spawn(async move { drop(call.await) });
    let [_, _, request] = peer.recv().await;
    call.abort();
    // The head is an array with the kind, the id, the name, and the options: the timeout, and the
    // names of the parameters, which are short texts.
    let names = b"\xa6params";
    let at = request.windows(names.len()).position(|part| part == names).unwrap();
    let mut rest = &request[at + names.len()..];
    let count = rest[0] & 0x0f;
    rest = &rest[1..];
    for _ in 0..count {
        rest = &rest[1 + usize::from(rest[0] & 0x1f)..];
    }
    rest.to_vec()
}

#[tokio::test]
async fn nones_at_the_end_are_not_sent() {
    let mut peer = RawServer::bind().await;
    let client = tests::client().connect_lazy(&peer.endpoint).unwrap();
    let [identity, _, hello] = peer.recv().await;
    let welcome = b"\xc0\x82\xa8protocol\x01\xb0max_message_size\xcd\xff\xff";
    peer.send(&identity, &[b"\x94\x01", &hello[2..7], welcome].concat()).await;

    macro_rules! check {
        ($($function:ident($($argument:expr),*) => $params:literal;)*) => {$(
            let sent = params(&mut peer, $function::call(&client, $($argument),*)).await;
            assert_eq!(sent, $params, stringify!($function($($argument),*)));
            // The cancel of the call.
            peer.recv().await;
            // The other functions send the same.
            $function::notify(&client, $($argument),*).await.unwrap();
            assert!(peer.recv().await[2].ends_with($params));
            drop(client.notify($function::args($($argument),*)).await);
            assert!(peer.recv().await[2].ends_with($params));
        )*};
    }
    let text = Some("x".to_owned());
    check! {
        only(None) => b"\x90";
        only(Some(1)) => b"\x91\x01";
        several(1, None, None, &None, None) => b"\x91\x01";
        several(1, Some(2), None, &None, None) => b"\x92\x01\x02";
        several(1, None, Some(None), &None, None) => b"\x93\x01\xc0\xc0";
        several(1, None, None, &text, None) => b"\x94\x01\xc0\xc0\xa1x";
        several(1, None, None, &None, Some(b"x".to_vec())) => b"\x95\x01\xc0\xc0\xc0\xc4\x01x";
        blobs(None, None) => b"\x90";
        blobs(Some(vec![1]), None) => b"\x91\xc4\x01\x01";
        blobs(None, Some(Bytes::from_static(b"x"))) => b"\x92\xc0\xc4\x01x";
        required_last(None, 1) => b"\x92\xc0\x01";
        text_last(None, "x") => b"\x92\xc0\xa1x";
        unit_last(None, ()) => b"\x92\xc0\xc0";
    }
    let mut map = only::map(&client, [None]);
    let map = tokio::spawn(async move { drop(map.next().await) });
    assert!(peer.recv().await[2].ends_with(b"\x90"));
    map.abort();
}

/// The functions of `crate`, with a parameter that its server does not know yet.
mod newer {
    use super::remote;

    #[remote]
    pub(super) fn half(n: i64, digits: Option<u8>, more: Option<u8>) -> Result<i64, String>;
}

#[tokio::test]
async fn a_newer_client_calls_an_older_server() {
    let endpoint = format!("inproc://{}", tests::unique());
    let server = server(&Arc::default()).bind(&*endpoint).await.unwrap().spawn().unwrap();
    let client = tests::client().connect(&*endpoint).await.unwrap();
    assert_eq!(newer::half::call(&client, 8, None, None).await.unwrap(), 4);
    assert_eq!(newer::half::call(&client, 8, Some(1), None).await.unwrap(), 4);
    let error = newer::half::call(&client, 8, None, Some(1)).await.unwrap_err();
    assert_eq!(error.rpc().unwrap().kind(), ErrorKind::BadArguments);
    assert!(contains(error.to_string().as_bytes(), "the function takes 2"), "{error}");
    server.shutdown().await;
}
