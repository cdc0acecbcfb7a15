//! A peer that sends requests and does not read the replies. The replies that wait for it are
//! bounded, and no other peer notices.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rpc_core::{Engine, remote};
use tests::{RawClient, soon};

use crate::Pair;

/// More replies than the server may queue. The buffers between the server and a peer hold only a
/// few replies of this length.
const REQUESTS: u64 = 80_000;
const LENGTH: usize = 1_024;

static ANSWERED: AtomicU64 = AtomicU64::new(0);

#[remote(inline)]
fn kibibyte() -> Bytes {
    ANSWERED.fetch_add(1, Ordering::Relaxed);
    Bytes::from_static(&[0; LENGTH])
}

#[tokio::test]
async fn omq_drops_replies_that_a_peer_does_not_read() {
    let pair = Pair::on(Engine::Omq).await;
    let mut peer = RawClient::connect(pair.server.endpoint()).await;
    for _ in 0..REQUESTS {
        peer.send(&[b"", b"\x94\x00\x07\xa8kibibyte\x90"]).await;
    }
    let answered = async {
        while ANSWERED.load(Ordering::Relaxed) < REQUESTS {
            pair.works().await;
        }
    };
    soon("all requests are answered", answered).await;
    // Now the peer reads. The first replies arrive in order, and reading them makes capacity for
    // new ones. The moment of that depends on the engine and on the buffers of the operating
    // system, so the peer sends a ping again and again.
    let mut read = 0;
    while peer.recv().await[1].len() > LENGTH {
        read += 1;
        if read % 500 == 0 {
            peer.send(&[b"", b"\x94\x00\x08\xa8rpc.ping\x90"]).await;
        }
    }
    assert!(read >= 1_000, "{read}");
    assert!(read < REQUESTS, "everything was kept");
    pair.end().await;
}
