//! Connections that violate the ZMTP handshake. `omq` closes them soon, and no other peer notices.

use std::time::Duration;

use rpc_core::Engine;
use tests::RawClient;
use tokio::time;

use crate::{
    Pair, child,
    zmtp::{COMMAND, MORE, Stranger, frame, greeting, header, huge, ready},
};

#[tokio::test]
async fn omq_disconnects_on_a_huge_frame() {
    let pair = Pair::on(Engine::Omq).await;
    let before_the_handshake = [0, COMMAND].map(|flags| [greeting(1), huge(flags)].concat());
    for said in before_the_handshake {
        let mut stranger = Stranger::at(pair.server.endpoint()).await;
        stranger.send(&said).await.unwrap();
        stranger.until_disconnected().await;
    }
    for flags in [0, COMMAND] {
        let mut stranger = Stranger::known_at(pair.server.endpoint()).await;
        stranger.send(&huge(flags)).await.unwrap();
        stranger.until_disconnected().await;
        pair.works().await;
    }
    pair.end().await;
}

#[tokio::test]
async fn omq_answers_only_slightly_oversized_messages() {
    let pair = Pair::on(Engine::Omq).await;
    let mut peer = RawClient::connect(pair.server.endpoint()).await;
    let request =
        [b"\x94\x00\x07\xa4echo\x91\xc6\x01\x00\x00\x00".as_slice(), &vec![0; 16 << 20]].concat();
    let reply = peer.ask(&request).await;
    assert!(reply.windows(9).any(|part| part == b"too_large"), "{reply:?}");
    let mut peer = Stranger::known_at(pair.server.endpoint()).await;
    peer.send(&[frame(MORE, b""), header(0, 17 << 20)].concat()).await.unwrap();
    peer.until_disconnected().await;
    pair.end().await;
}

/// Pins a limitation of the `zeromq` crate. A failure here means that the crate has learned to
/// reject huge frames. Then update the documentation of `Engine` and the table in docs/ENGINES.md.
#[tokio::test]
async fn huge_frame_ends_the_zeromq_process() {
    let server = child::Server::start(Engine::Zeromq).await;
    let mut stranger = Stranger::at(&server.endpoint).await;
    stranger.send(&[greeting(0), huge(0)].concat()).await.unwrap();
    assert!(!server.ended().await.success());

    let server = child::Server::start(Engine::Omq).await;
    let mut stranger = Stranger::at(&server.endpoint).await;
    stranger.send(&[greeting(0), huge(0)].concat()).await.unwrap();
    stranger.until_disconnected().await;
    assert!(server.told_to_end().await.success());
}

#[tokio::test]
async fn only_omq_times_out_slow_handshakes() {
    let (omq, zeromq) = (Pair::on(Engine::Omq).await, Pair::on(Engine::Zeromq).await);
    let whole = [greeting(1), ready()].concat();
    // Nothing, half a greeting, a whole greeting without a command, and a command without its last
    // byte.
    let lengths = [0, 10, 64, whole.len() - 1];
    let strangers = |endpoint: String| {
        let whole = whole.clone();
        async move {
            let mut strangers = Vec::new();
            for length in lengths {
                let mut stranger = Stranger::at(&endpoint).await;
                stranger.send(&whole[..length]).await.unwrap();
                strangers.push(stranger);
            }
            strangers
        }
    };
    let tolerated = strangers(zeromq.server.endpoint().to_owned()).await;
    let mut slow = Stranger::at(omq.server.endpoint()).await;
    let slowly = async {
        // A peer that keeps sending bytes does not get more time.
        for byte in &whole {
            time::sleep(Duration::from_millis(200)).await;
            if slow.send(&[*byte]).await.is_err() {
                break;
            }
        }
        slow.until_disconnected().await;
    };
    let mut disconnected = strangers(omq.server.endpoint().to_owned()).await;
    let stalled = async {
        for stranger in &mut disconnected {
            stranger.until_disconnected().await;
        }
    };
    let (busy, mut done) = (omq.works(), std::pin::pin!(async { tokio::join!(slowly, stalled) }));
    busy.await;
    done.as_mut().await;
    assert!(
        tolerated.iter().all(Stranger::is_connected),
        "the table in docs/ENGINES.md says otherwise"
    );
    omq.end().await;
    zeromq.end().await;
}

#[tokio::test]
async fn omq_survives_random_bytes() {
    let pair = Pair::on(Engine::Omq).await;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut strangers = Vec::new();
    for round in 0..200 {
        let said: Vec<u8> = (0..random() % 2_000).map(|_| random().to_le_bytes()[0]).collect();
        // Random bytes from the start, after the greeting, as a command, and after the handshake.
        let (mut stranger, said) = match round % 4 {
            0 => (Stranger::at(pair.server.endpoint()).await, said),
            1 => (Stranger::at(pair.server.endpoint()).await, [greeting(1), said].concat()),
            2 => {
                let command = frame(COMMAND, &said[..said.len().min(200)]);
                (Stranger::at(pair.server.endpoint()).await, [greeting(1), command].concat())
            }
            _ => (Stranger::known_at(pair.server.endpoint()).await, said),
        };
        // The server may close the connection before all bytes are sent.
        let _ = stranger.send(&said).await;
        strangers.push((round, stranger));
        if round % 20 == 0 {
            pair.works().await;
        }
    }
    for (round, stranger) in &mut strangers {
        // After the handshake the random bytes may have been valid messages.
        if *round % 4 != 3 {
            stranger.until_disconnected().await;
        }
    }
    pair.end().await;
}
