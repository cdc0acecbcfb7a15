//! Keeps one endpoint connected: connects and says hello, and does so again when the link has
//! ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, task::JoinSet, time};

use super::{Channel, link};
use crate::{
    args::EncodedArgs,
    client::links::Peer,
    codec,
    endpoint::Endpoint,
    message::{self, Head, Incoming, PROTOCOL_VERSION},
    transport::{self, LinkReceiver, LinkSender, TransportError},
};

/// The first pause between two attempts to connect; it doubles up to the longest. Each is cut by up
/// to half at random, so that the clients of a server that comes back do not come all at once.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A link that ends sooner than this does not count as a success.
const STABLE: Duration = Duration::from_secs(1);
/// How long the first attempt to connect may take; it doubles up to the longest.
const FIRST_ATTEMPT: Duration = Duration::from_secs(1);
const LONGEST_ATTEMPT: Duration = Duration::from_secs(8);
/// None is made that could not find out why it fails.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(100);
/// How many links to servers that are leaving may stay open for the replies they owe. With so many,
/// the next connection waits until one has ended.
const MAX_LEAVING: usize = 4;

/// What the client says in `rpc.hello`.
#[derive(Serialize)]
struct Hello {
    protocol: u32,
    max_message_size: usize,
    batches: bool,
}

/// What the client wants to know of the server's answer.
#[derive(Deserialize)]
struct HelloReply {
    max_message_size: usize,
    #[serde(default)]
    batches: bool,
    #[serde(default)]
    instance: Option<String>,
}

/// Keeps the endpoint with this index connected until the channel is closed. If nothing has
/// answered by `connect_by` it says so, and goes on.
pub(super) async fn keep_connected(
    channel: Arc<Channel>,
    index: usize,
    endpoint: Endpoint,
    mut connect_by: Option<Instant>,
) {
    // The link that takes calls, and those whose servers are leaving.
    let mut links = JoinSet::new();
    let mut pause = Duration::ZERO;
    loop {
        let connecting = async {
            while links.len() >= MAX_LEAVING {
                links.join_next().await;
            }
            time::sleep(jittered(pause)).await;
            connect(&channel, index, &endpoint, connect_by.take()).await
        };
        let (sender, receiver, peer) = tokio::select! {
            link = connecting => link,
            () = channel.closing() => break,
        };
        let since = Instant::now();
        let (leaves, left) = oneshot::channel();
        links.spawn(link::serve(Arc::clone(&channel), index, peer, sender, receiver, leaves));
        // An error means that it has ended.
        let _ = left.await;
        // A server that takes connections and drops them again is not asked without a break.
        pause = if since.elapsed() < STABLE {
            (2 * pause).clamp(FIRST_PAUSE, LONGEST_PAUSE)
        } else {
            Duration::ZERO
        };
    }
    while links.join_next().await.is_some() {}
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// How long to wait before the next attempt: shorter where there is `left` until giving up, so that
/// it is made before. `None` if that leaves no time for one.
fn wait(pause: Duration, left: Option<Duration>) -> Option<Duration> {
    let longest = left.map_or(Duration::MAX, |left| left / 2);
    (longest >= SHORTEST_ATTEMPT).then(|| jittered(pause).min(longest))
}

/// Tries until there is a link and its peer has answered.
async fn connect(
    channel: &Channel,
    index: usize,
    endpoint: &Endpoint,
    mut by: Option<Instant>,
) -> (LinkSender, LinkReceiver, Peer) {
    let (mut pause, mut longest) = (FIRST_PAUSE, FIRST_ATTEMPT);
    loop {
        let left = by.map(|by| by.saturating_duration_since(Instant::now()));
        let attempt = left.map_or(longest, |left| left.min(longest));
        let cause = match attempt_link(channel, endpoint, Instant::now() + attempt).await {
            Ok(link) => return link,
            Err(cause) => cause,
        };
        tracing::debug!(endpoint = &*channel.endpoints[index], %cause, "cannot connect");
        channel.link_failed(index, &cause.to_string());
        let left = by.map(|by| by.saturating_duration_since(Instant::now()));
        let wait = wait(pause, left);
        time::sleep(wait.or(left).unwrap_or_default()).await;
        if wait.is_none() {
            by = None;
            channel.gave_up();
        }
        pause = (2 * pause).min(LONGEST_PAUSE);
        longest = (2 * longest).min(LONGEST_ATTEMPT);
    }
}

async fn attempt_link(
    channel: &Channel,
    endpoint: &Endpoint,
    by: Instant,
) -> Result<(LinkSender, LinkReceiver, Peer), TransportError> {
    let (mut sender, mut receiver) = transport::connect(endpoint, channel.carrier, by).await?;
    match time::timeout_at(by.into(), hello(channel, &mut sender, &mut receiver)).await {
        Ok(peer) => Ok((sender, receiver, peer?)),
        Err(_) => Err("it did not answer in time".into()),
    }
}

/// Learns who is there. Nothing else is under way on the link yet.
async fn hello(
    channel: &Channel,
    sender: &mut LinkSender,
    receiver: &mut LinkReceiver,
) -> Result<Peer, TransportError> {
    let id = channel.lock().in_flight.skip_id();
    let max_message_size = channel.carrier.max_message_size;
    let hello = Hello { protocol: PROTOCOL_VERSION, max_message_size, batches: true };
    let args = EncodedArgs::dynamic("rpc.hello".to_owned(), &(hello,));
    sender.send(args.into_message(Head::Request { id, timeout_ms: None, key: None })).await?;
    let body = loop {
        let body = receiver.recv().await?;
        if matches!(message::classify(&body), Incoming::Response { id: answered, .. } if answered == id)
        {
            break body;
        }
    };
    let reply = match message::parse_response(&body) {
        Some(Ok(range)) => codec::from_slice::<HelloReply>(&body[range]).ok(),
        _ => None,
    };
    Ok(match reply {
        Some(HelloReply { max_message_size: limit, batches, instance }) => {
            let max_message_size = limit.min(max_message_size);
            Peer { extended: true, max_message_size, batches, instance: instance.map(Arc::from) }
        }
        None => Peer { extended: false, max_message_size, batches: false, instance: None },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_up_has_tried_until_shortly_before() {
        let (mut left, mut pause, mut attempts) = (Duration::from_secs(5), FIRST_PAUSE, 1);
        while let Some(wait) = wait(pause, Some(left)) {
            assert!(wait + SHORTEST_ATTEMPT <= left, "an attempt follows");
            left -= wait;
            pause = (2 * pause).min(LONGEST_PAUSE);
            attempts += 1;
        }
        assert!(left < 2 * SHORTEST_ATTEMPT, "{left:?}");
        assert!((10..40).contains(&attempts), "{attempts}");
    }

    #[test]
    fn pauses_are_cut_by_half_at_most() {
        let waits: Vec<_> = (0..100).filter_map(|_| wait(LONGEST_PAUSE, None)).collect();
        assert!(
            waits.iter().all(|wait| (LONGEST_PAUSE / 2..=LONGEST_PAUSE).contains(wait)),
            "{waits:?}"
        );
        assert_eq!(waits.len(), 100);
    }
}
