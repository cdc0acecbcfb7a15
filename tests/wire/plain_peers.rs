//! Our client with a server that speaks plain MessagePack-RPC on a REP socket, one request at a
//! time.

use rpc_core::ErrorKind;
use tests::soon;
use zeromq::{RepSocket, Socket, SocketRecv, SocketSend};

use crate::add;

/// Answers `add` and nothing else, like a server loop of twenty lines.
async fn serve(mut socket: RepSocket) {
    while let Ok(request) = socket.recv().await {
        let (kind, id, method, params): (u8, u32, String, Vec<i64>) =
            rmp_serde::from_slice(request.get(0).expect("there is a frame")).unwrap_or_default();
        let reply = if method == "add" && kind == 0 {
            rmp_serde::to_vec(&(1, id, (), params.iter().sum::<i64>()))
        } else {
            // The client's ids start at zero, and so do the default ids here. Only the hello fails
            // to decode above.
            rmp_serde::to_vec(&(1, id, format!("no method {method}"), ()))
        };
        socket.send(reply.expect("it can be encoded").into()).await.expect("the client is there");
    }
}

#[tokio::test]
async fn our_client_calls_a_plain_peer() {
    let mut socket = RepSocket::new();
    let endpoint = socket.bind("tcp://127.0.0.1:0").await.unwrap().to_string();
    let serving = tokio::spawn(serve(socket));
    let client = soon("connecting", tests::client().connect(&endpoint)).await.unwrap();
    let mut sums = add::map(&client, (0..100).map(|n| (n, n))).ordered();
    for n in 0..100 {
        assert_eq!(soon("a sum", sums.next()).await.unwrap().1.unwrap(), 2 * n);
    }
    let error = soon("an error", client.call_dynamic::<i64>("sub", (1, 2))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Remote);
    assert_eq!(error.message(), "no method sub");
    soon("closing", client.close()).await;
    serving.abort();
}
