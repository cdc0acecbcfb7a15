//! The loop that owns a listener: messages in, outcomes in, deadlines, replies out. It never runs a user's
//! function, unless that is `inline`, and never waits for a peer.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::{
    sync::{mpsc, watch},
    task::coop,
    time,
};

use crate::{
    server::{
        dispatch::{Dispatcher, Reply},
        run::{News, Runner},
        unread::Unread,
    },
    transport::{Event, Listener},
};

/// How many messages, and how many outcomes, are handled before looking at anything else.
const BATCH: usize = 256;
/// How often deadlines are looked at, at most. Calls may end this much late.
const DEADLINE_TICK: Duration = Duration::from_millis(1);
/// How long a listener that has drained goes on answering what peers had already sent that never said hello.
const LAST_MESSAGES: Duration = Duration::from_millis(20);
/// The same while somebody is there who did: it was told goodbye, and leaves when it has all its replies. Some
/// never do, because a proxy stands before them or they hang; and nobody should wait long for a server to end.
const LAST_CLIENTS: Duration = Duration::from_secs(1);

/// How far a server's life has come. It only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// Nothing new is started; what runs may end.
    Draining,
    /// What still runs is given up.
    Stopped,
}

/// Serves a listener until it has drained, or the server has stopped.
pub(crate) async fn serve(
    mut listener: Listener,
    mut dispatcher: Dispatcher<Runner>,
    mut outcomes: mpsc::UnboundedReceiver<News>,
    unread: Unread,
    mut phase: watch::Receiver<Phase>,
) {
    let mut replies = Vec::new();
    let mut finished = Vec::with_capacity(BATCH);
    let mut sending = Sending { unread, dropped: 0 };
    let mut looked_at = Instant::now();
    // Set once it drains and nothing runs.
    let mut idle_since = None;
    let mut draining = false;
    // One timer, set anew only when the moment changes: to make one costs as much as a call.
    let mut alarm = pin!(time::sleep(Duration::ZERO));
    loop {
        // From the last look on, and not from now: otherwise a busy loop would put it off for ever.
        let deadline = dispatcher.next_deadline().map(|next| next.max(looked_at + DEADLINE_TICK));
        // A server without deadlines does not wake up for them.
        if let Some(deadline) =
            deadline.map(time::Instant::from).filter(|deadline| *deadline != alarm.deadline())
        {
            alarm.as_mut().reset(deadline);
        }
        let drained = draining && dispatcher.is_idle();
        idle_since = drained.then(|| idle_since.unwrap_or_else(Instant::now));
        let patience = if dispatcher.has_clients() { LAST_CLIENTS } else { LAST_MESSAGES };
        // It ends then, whatever still comes.
        let ends_at = idle_since.map(|since| since + patience);
        // What makes room comes before what takes it.
        tokio::select! {
            biased;
            // An error means that the server was dropped.
            changed = phase.changed() => {
                let now = if changed.is_ok() { *phase.borrow_and_update() } else { Phase::Stopped };
                if now == Phase::Stopped {
                    let functions = dispatcher.running();
                    if !functions.is_empty() {
                        tracing::warn!(?functions, "the server stops, and gives up what still runs");
                    }
                    dispatcher.give_up(Instant::now(), &mut replies);
                    // Who waited for what was given up has news of it.
                    while let Ok(news) = outcomes.try_recv() {
                        replies.extend(dispatcher.on_news(news, Instant::now()));
                    }
                    sending.send(&mut listener, &mut replies);
                    return;
                }
                draining = true;
                listener.stop_accepting();
                dispatcher.goodbye(&mut replies);
            }
            () = alarm.as_mut(), if deadline.is_some() => {
                looked_at = Instant::now();
                dispatcher.on_time(looked_at, &mut replies);
            }
            () = until(ends_at), if drained => return,
            _ = outcomes.recv_many(&mut finished, BATCH) => {
                let now = Instant::now();
                replies.extend(finished.drain(..).filter_map(|news| dispatcher.on_news(news, now)));
            }
            event = listener.recv() => {
                let now = Instant::now();
                sending.handle(event, now, &mut dispatcher, &mut replies);
                // Whatever else has arrived is taken along, before anything sleeps.
                for _ in 1..BATCH {
                    let Some(event) = listener.recv().now_or_never() else { break };
                    sending.handle(event, now, &mut dispatcher, &mut replies);
                }
            }
        }
        sending.send(&mut listener, &mut replies);
        // The engine's own tasks have to run on this thread too, and nothing above need ever wait.
        coop::consume_budget().await;
    }
}

/// Never, if there is no such moment.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// The way out: what peers have not read, and what was dropped because of it.
struct Sending {
    unread: Unread,
    /// Replies that found no peer, or one that does not read.
    dropped: u64,
}

impl Sending {
    fn handle(
        &mut self,
        event: Event,
        now: Instant,
        dispatcher: &mut Dispatcher<Runner>,
        replies: &mut Vec<Reply>,
    ) {
        match event {
            Event::Message(envelope, body) => dispatcher.on_message(envelope, &body, now, replies),
            Event::Malformed(envelope, reason) => {
                replies.push(Dispatcher::<Runner>::on_malformed(envelope, reason));
            }
            Event::PeerGone(peer) => {
                self.unread.peer_gone(&peer);
                dispatcher.on_peer_gone(&peer, now);
            }
        }
    }

    fn send(&mut self, listener: &mut Listener, replies: &mut Vec<Reply>) {
        for Reply { envelope, body } in replies.drain(..) {
            let part = self.unread.take(envelope.peer(), body.len());
            if !part.is_some_and(|part| listener.send(envelope, body, part)) {
                self.count_dropped();
            }
        }
    }

    /// Logs the first, and then every time that their number has doubled.
    fn count_dropped(&mut self) {
        self.dropped += 1;
        if self.dropped.is_power_of_two() {
            tracing::warn!(
                dropped = self.dropped,
                "a reply was dropped: its peer has gone, or does not read"
            );
        }
    }
}
