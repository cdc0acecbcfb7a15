//! The task of one endpoint. It connects, sends the hello, and reconnects whenever the link has
//! ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{sync::oneshot, task::JoinSet, time};

use crate::{
    client::{
        core::{ClientCore, link},
        endpoints::EndpointState,
        expect,
    },
    codec,
    protocol::{
        MsgId,
        control::{self, PeerInfo, Window},
        request::Head,
        response::{self, ServerMessage},
    },
    transport::{CarrierEvent, Fate, Link, LinkEvent, Mismatch, Posting, TransportError, open},
};

/// The backoff between the first two attempts to connect. It doubles with each attempt, up to
/// [`MAX_BACKOFF`]. Each backoff is shortened by up to half at random, so that the clients of a
/// server that restarts do not all reconnect at once.
const INITIAL_BACKOFF: Duration = Duration::from_millis(20);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// The backoff after an attempt at a server that encrypts with another key, or has refused that of
/// the client.
const MISMATCH_BACKOFF: Duration = Duration::from_secs(5);
/// The age at which a link counts as stable. If a younger link is lost, the client backs off before
/// it reconnects.
const STABLE: Duration = Duration::from_secs(1);
/// The timeout of the first attempt to connect. It doubles with each attempt, up to
/// [`MAX_ATTEMPT`].
const INITIAL_ATTEMPT: Duration = Duration::from_secs(1);
const MAX_ATTEMPT: Duration = Duration::from_secs(8);
/// The shortest timeout of an attempt. A shorter attempt is not made, because it could not find out
/// why it fails.
const MIN_ATTEMPT: Duration = Duration::from_millis(100);
/// The time without a connection after which it is worth a warning. Before that, a server may be on
/// its way, or be restarted.
const WARN_AFTER: Duration = Duration::from_secs(10);
/// The interval of further warnings.
const WARN_INTERVAL: Duration = Duration::from_secs(30);
/// The maximum number of links to draining servers, which stay open for the replies that are owed.
/// At this number, the next attempt to connect waits until one of them has ended.
const MAX_DRAINING: usize = 4;

/// Keeps an endpoint connected until the client closes or the endpoint is removed. If no server has
/// answered by `connect_by`, the task reports this to the core, and continues to connect.
pub(super) async fn keep_connected(
    core: Arc<ClientCore>,
    endpoint: Arc<EndpointState>,
    mut connect_by: Option<Instant>,
    mut removed: oneshot::Receiver<()>,
) {
    // The link that takes calls, and the links whose servers are draining.
    let mut links = JoinSet::new();
    let mut backoff = Duration::ZERO;
    loop {
        let connecting = async {
            while links.len() >= MAX_DRAINING {
                links.join_next().await;
            }
            time::sleep(jittered(backoff)).await;
            connect(&core, &endpoint, connect_by.take()).await
        };
        let (link, peer) = tokio::select! {
            biased;
            () = core.closing() => break,
            _ = &mut removed => break,
            connected = connecting => connected,
        };
        let since = Instant::now();
        let (drains, draining) = oneshot::channel();
        links.spawn(link::serve(Arc::clone(&core), Arc::clone(&endpoint), peer, link, drains));
        // An error means that the link has ended.
        let _ = draining.await;
        // Without this backoff, a server that accepts connections and drops them at once would be
        // asked again and again without a pause.
        backoff = if since.elapsed() < STABLE {
            (2 * backoff).clamp(INITIAL_BACKOFF, MAX_BACKOFF)
        } else {
            Duration::ZERO
        };
    }
    while links.join_next().await.is_some() {}
}

/// Shortens a pause by up to half at random.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Returns the pause before the next attempt. The pause is at most half of the time `left` until
/// the connect timeout, so that there is time for the attempt. Returns `None` if there is no time
/// for an attempt.
fn pause(backoff: Duration, left: Option<Duration>) -> Option<Duration> {
    let longest = left.map_or(Duration::MAX, |left| left / 2);
    (longest >= MIN_ATTEMPT).then(|| jittered(backoff).min(longest))
}

/// Tries to connect until there is a link whose peer has answered the hello.
async fn connect(
    core: &ClientCore,
    endpoint: &Arc<EndpointState>,
    mut by: Option<Instant>,
) -> (Link, PeerInfo) {
    let (mut backoff, mut longest) = (INITIAL_BACKOFF, INITIAL_ATTEMPT);
    let since = Instant::now();
    let mut log_at = since;
    loop {
        let left = by.map(|by| by.saturating_duration_since(Instant::now()));
        let attempt = left.map_or(longest, |left| left.min(longest));
        let cause = match try_connect(core, endpoint, Instant::now() + attempt).await {
            Ok(connected) => return connected,
            Err(cause) => cause,
        };
        let name = &*endpoint.name;
        let now = Instant::now();
        if now < log_at {
            tracing::debug!(endpoint = name, %cause, "cannot connect");
        } else if now < since + WARN_AFTER {
            tracing::info!(endpoint = name, %cause, "cannot connect, and goes on trying");
            log_at = since + WARN_AFTER;
        } else {
            tracing::warn!(endpoint = name, %cause, "cannot connect, and goes on trying");
            log_at = now + WARN_INTERVAL;
        }
        core.link_failed(endpoint, &cause.to_string());
        if cause.is::<Mismatch>() {
            // Waiting for a server would not help.
            by = None;
            core.give_up(endpoint);
            backoff = MISMATCH_BACKOFF;
        }
        let left = by.map(|by| by.saturating_duration_since(Instant::now()));
        let pause = pause(backoff, left);
        time::sleep(pause.or(left).unwrap_or_default()).await;
        if pause.is_none() {
            by = None;
            core.give_up(endpoint);
        }
        backoff = (2 * backoff).min(MAX_BACKOFF);
        longest = (2 * longest).min(MAX_ATTEMPT);
    }
}

async fn try_connect(
    core: &ClientCore,
    endpoint: &EndpointState,
    by: Instant,
) -> Result<(Link, PeerInfo), TransportError> {
    let mut link = open::connect(&endpoint.address, &core.transport, by).await?;
    match time::timeout_at(by.into(), introduce(core, &mut link, by)).await {
        Ok(peer) => Ok((link, peer?)),
        Err(_) => Err("it did not answer in time".into()),
    }
}

/// Says hello to the peer, if it answers that, and compares its functions with those that the
/// client expects.
async fn introduce(
    core: &ClientCore,
    link: &mut Link,
    by: Instant,
) -> Result<PeerInfo, TransportError> {
    let mut peer = if let Some(peer) = link.peer.take() {
        peer
    } else {
        let (id, limit) = (core.skip_id(), core.transport.max_message_size);
        let hello = control::client_hello(id, limit, core.takes_windows);
        let answer = ask(link, id, hello, &mut None, by).await?;
        control::read_server_hello(answer.as_deref(), limit)
    };
    if !core.expected.is_empty() {
        let id = core.skip_id();
        let question = control::discover().into_message(Head::request(id));
        let answer = ask(link, id, question, &mut peer.window, by).await?;
        let service = answer.and_then(|answer| codec::from_slice(&answer).ok());
        let service = service.ok_or("it does not describe its functions")?;
        let differences = expect::differences(&core.expected, &service);
        if !differences.is_empty() {
            return Err(
                format!("it differs from what is expected: {}", differences.join("; ")).into()
            );
        }
    }
    Ok(peer)
}

/// Sends the request `id` on a link on which no call was sent yet, and returns the result. `None` if
/// the peer has answered with an error. The `window` is kept up to date meanwhile.
/// A carrier that stores messages drops the request at `by`.
async fn ask(
    link: &mut Link,
    id: MsgId,
    request: Bytes,
    window: &mut Option<Window>,
    by: Instant,
) -> Result<Option<Bytes>, TransportError> {
    link.sender.label(Posting { tag: 0, deadline: Some(by) });
    link.sender.send(request).await?;
    loop {
        let body = match link.receiver.recv().await? {
            LinkEvent::Body(body) => body,
            LinkEvent::Carrier(event) => match *event {
                CarrierEvent::Blocked(Some(reason))
                | CarrierEvent::Settled {
                    fate: Fate::Refused(reason) | Fate::Returned(reason),
                    ..
                } => return Err(reason.into()),
                _ => continue,
            },
        };
        match response::classify(&body) {
            ServerMessage::Response { id: answered, .. } if answered == id => {
                let result = response::parse_response(&body).and_then(Result::ok);
                return Ok(result.map(|range| body.slice(range)));
            }
            ServerMessage::GoAway => return Err("the server is leaving".into()),
            ServerMessage::Window(stated) => {
                // Nothing is in flight, so that the window is kept to.
                let report = control::window(stated).into_message(Head::NOTIFICATION);
                link.sender.send(report).await?;
                *window = Some(stated);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Mutex, PoisonError},
        task::{Context, Poll},
    };

    use futures_util::FutureExt;

    use super::*;
    use crate::transport::{LinkReceiver, LinkSender};

    #[derive(Default, Clone)]
    struct Sent(Arc<Mutex<Vec<Bytes>>>);

    impl LinkSender for Sent {
        fn poll_send(
            &mut self,
            body: &mut Option<Bytes>,
            _: &mut Context<'_>,
        ) -> Poll<Result<(), TransportError>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(body.take());
            Poll::Ready(Ok(()))
        }
    }

    struct Script(VecDeque<Bytes>);

    impl LinkReceiver for Script {
        fn poll_recv(&mut self, _: &mut Context<'_>) -> Poll<Result<LinkEvent, TransportError>> {
            Poll::Ready(self.0.pop_front().map(LinkEvent::Body).ok_or("the end".into()))
        }
    }

    /// Asks a peer that sends `script`. Returns the outcome, the window after it, and what was sent.
    fn ask_peer(
        script: impl IntoIterator<Item = Bytes>,
    ) -> (Result<Option<Bytes>, TransportError>, Option<Window>, Vec<Bytes>) {
        let sent = Sent::default();
        let mut link = Link {
            sender: Box::new(sent.clone()),
            receiver: Box::new(Script(script.into_iter().collect())),
            peer: None,
        };
        let mut window = None;
        let asked = ask(
            &mut link,
            MsgId(7),
            Bytes::from_static(b"a question"),
            &mut window,
            Instant::now(),
        );
        let answer = asked.now_or_never().expect("the answer is there");
        let sent = sent.0.lock().unwrap().clone();
        (answer, window, sent)
    }

    #[test]
    fn what_comes_before_an_answer_is_not_lost() {
        let stated = Window { number: 1, calls: 16, bytes: 4_096 };
        let notice = control::window(stated).into_message(Head::NOTIFICATION);
        let answer = response::response(MsgId(7), b"\x05");
        let (result, window, sent) = ask_peer([notice.clone(), answer.clone()]);
        assert_eq!(result.unwrap().unwrap(), b"\x05"[..]);
        assert_eq!((window, &sent[1..]), (Some(stated), &[notice][..]), "it was confirmed");
        let (result, ..) = ask_peer([control::go_away(), answer]);
        assert_eq!(result.unwrap_err().to_string(), "the server is leaving");
    }

    #[test]
    fn attempts_continue_until_connect_timeout() {
        let (mut left, mut backoff) = (Duration::from_secs(5), INITIAL_BACKOFF);
        let mut attempts = 1;
        while let Some(pause) = pause(backoff, Some(left)) {
            assert!(pause + MIN_ATTEMPT <= left, "there is time for an attempt after the pause");
            left -= pause;
            backoff = (2 * backoff).min(MAX_BACKOFF);
            attempts += 1;
        }
        assert!(left < 2 * MIN_ATTEMPT, "{left:?}");
        assert!((10..40).contains(&attempts), "{attempts}");
    }

    #[test]
    fn jitter_shortens_pauses_by_half_at_most() {
        let pauses: Vec<_> = (0..100).filter_map(|_| pause(MAX_BACKOFF, None)).collect();
        assert!(
            pauses.iter().all(|pause| (MAX_BACKOFF / 2..=MAX_BACKOFF).contains(pause)),
            "{pauses:?}"
        );
        assert_eq!(pauses.len(), 100);
    }
}
