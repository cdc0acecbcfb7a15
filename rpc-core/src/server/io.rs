//! The loop that owns a listener: messages in, outcomes in, deadlines, replies out. It never runs a
//! user's function, unless that is `inline`, and never waits for a peer.

use std::{
    collections::VecDeque,
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::{sync::watch, time};

use crate::{
    io_thread::Turn,
    message::batch::Batch,
    server::{
        dispatch::{Dispatcher, Reply},
        outbox::{LOOK_AGAIN, Outbox},
        run::{News, Runner},
        unread::Unread,
    },
    transport::{Event, Listener},
};

/// How many replies, and how many bytes of them, wait until they are sent: no more messages are
/// handled before.
const REPLIES: usize = 256;
const REPLY_BYTES: usize = 16 * 1024;
/// How often deadlines are looked at, at most. Calls may end this much late.
const DEADLINE_TICK: Duration = Duration::from_millis(1);
/// How long a listener that has drained goes on answering what peers had already sent that never
/// said hello.
const LAST_MESSAGES: Duration = Duration::from_millis(20);
/// The same while somebody is there who did: it was told goodbye, and leaves when it has all its
/// replies. Some never do, because a proxy stands before them or they hang; and nobody should wait
/// long for a server to end.
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
    outbox: Outbox,
    unread: Unread,
    mut phase: watch::Receiver<Phase>,
) {
    let mut replies = Vec::new();
    let mut news = VecDeque::new();
    let mut sending = Sending { unread, turn: Turn::default(), waiting: 0, dropped: 0 };
    let mut looked_at = Instant::now();
    let mut look_again: Option<Instant> = None;
    // Set once it drains and nothing runs.
    let mut idle_since = None;
    let mut draining = false;
    // One timer, set anew only when it has gone off or is too late: to set one costs as much as a
    // call.
    let mut alarm = pin!(time::sleep(Duration::ZERO));
    loop {
        // From the last look on, and not from now: otherwise a busy loop would put it off for ever.
        let deadline = dispatcher.next_deadline().map(|next| next.max(looked_at + DEADLINE_TICK));
        let look_again_at = look_again.filter(|_| !dispatcher.is_idle());
        let deadline = deadline.into_iter().chain(look_again_at).min();
        // A server without deadlines does not wake up for them. An alarm that comes too early does
        // no harm.
        if let Some(deadline) = deadline.map(time::Instant::from)
            && (alarm.is_elapsed() || deadline < alarm.deadline())
        {
            alarm.as_mut().reset(deadline);
        }
        let drained = draining && dispatcher.is_idle();
        idle_since = drained.then(|| idle_since.unwrap_or_else(Instant::now));
        let patience = if dispatcher.has_clients() { LAST_CLIENTS } else { LAST_MESSAGES };
        // It ends then, whatever still comes.
        let ends_at = idle_since.map(|since| since + patience);
        // Whether there may be more of what is looked at first.
        let mut more = true;
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
                    take_all(&outbox, &mut news, &mut dispatcher, Instant::now(), &mut replies);
                    sending.send(&mut listener, &dispatcher, &mut replies);
                    return;
                }
                draining = true;
                listener.stop_accepting();
                dispatcher.goodbye(&mut replies);
            }
            () = alarm.as_mut(), if deadline.is_some() => {
                looked_at = Instant::now();
                look_again = look_again.filter(|at| *at > looked_at);
                if dispatcher.next_deadline().is_some_and(|deadline| deadline <= looked_at) {
                    // What has ended in time comes before what has not.
                    take_all(&outbox, &mut news, &mut dispatcher, looked_at, &mut replies);
                    dispatcher.on_time(looked_at, &mut replies);
                }
            }
            () = until(ends_at), if drained => return,
            () = outbox.recv(&mut news) => {
                let now = Instant::now();
                while !sending.turn.is_over()
                    && let Some(news) = news.pop_front()
                {
                    let reply = dispatcher.on_news(news, now);
                    sending.turn.add(1, reply.as_ref().map_or(0, |reply| reply.body.len()));
                    replies.extend(reply);
                }
                // Workers take peers in turn, and a batch is for one.
                if replies.windows(2).any(|pair| pair[0].envelope != pair[1].envelope) {
                    replies.sort_by(|a, b| a.envelope.peer().cmp(b.envelope.peer()));
                }
                look_again = Some(now + LOOK_AGAIN);
            }
            event = listener.recv() => {
                let now = Instant::now();
                sending.handle(event, now, &mut listener, &mut dispatcher, &mut replies);
                // Whatever else has arrived is taken along, before anything sleeps.
                while !sending.turn.is_over()
                    && let Some(event) = listener.recv().now_or_never()
                {
                    sending.handle(event, now, &mut listener, &mut dispatcher, &mut replies);
                }
                dispatcher.begin();
                look_again = Some(now + LOOK_AGAIN);
                more = false;
            }
        }
        sending.send(&mut listener, &dispatcher, &mut replies);
        // The engine's own tasks have to run on this thread too, so that what was sent is written
        // now, while the peer can use it. If there is no more they run while this one sleeps.
        if more || sending.turn.is_over() {
            sending.turn.give_way().await;
        }
    }
}

/// Deals with all news, whether they were announced or not.
fn take_all(
    outbox: &Outbox,
    news: &mut VecDeque<News>,
    dispatcher: &mut Dispatcher<Runner>,
    now: Instant,
    replies: &mut Vec<Reply>,
) {
    while !news.is_empty() || outbox.take(news) {
        replies.extend(news.pop_front().and_then(|news| dispatcher.on_news(news, now)));
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
    turn: Turn,
    /// How many bytes the replies have that wait.
    waiting: usize,
    /// Replies that found no peer, or one that does not read.
    dropped: u64,
}

impl Sending {
    /// Sends already if there is much to be sent: before that nothing bounds it.
    fn handle(
        &mut self,
        event: Event,
        now: Instant,
        listener: &mut Listener,
        dispatcher: &mut Dispatcher<Runner>,
        replies: &mut Vec<Reply>,
    ) {
        match event {
            Event::Message(envelope, body) => {
                let mut counted = replies.len();
                let messages =
                    dispatcher.on_body(envelope, &body, now, replies, |dispatcher, replies| {
                        self.waiting +=
                            replies[counted..].iter().map(|reply| reply.body.len()).sum::<usize>();
                        if self.waiting >= REPLY_BYTES || replies.len() >= REPLIES {
                            self.send(listener, dispatcher, replies);
                        }
                        counted = replies.len();
                    });
                self.turn.add(messages, body.len());
            }
            Event::Malformed(envelope, reason) => {
                replies.push(Dispatcher::<Runner>::on_malformed(envelope, reason));
                self.turn.add(1, 0);
            }
            Event::PeerGone(peer) => {
                self.unread.peer_gone(&peer);
                dispatcher.on_peer_gone(&peer, now);
                self.turn.add(1, 0);
            }
        }
    }

    /// Small replies to the same client travel together, if it takes that.
    fn send(
        &mut self,
        listener: &mut Listener,
        dispatcher: &Dispatcher<Runner>,
        replies: &mut Vec<Reply>,
    ) {
        self.waiting = 0;
        let mut replies = replies.drain(..).peekable();
        while let Some(Reply { envelope, mut body, alone }) = replies.next() {
            let mut count = 1;
            let joins = |next: &Reply| {
                next.envelope == envelope && Batch::suits(next.body.len()) && !next.alone
            };
            if Batch::suits(body.len())
                && !alone
                && replies.peek().is_some_and(joins)
                && dispatcher.takes_batches(&envelope)
            {
                let mut batch = Batch::default();
                batch.begin(body.len(), replies.len()).extend_from_slice(&body);
                while let Some(next) =
                    replies.next_if(|next| joins(next) && batch.has_room(next.body.len()))
                {
                    batch.begin(next.body.len(), 0).extend_from_slice(&next.body);
                }
                count = batch.count().into();
                body = batch.take().unwrap_or_default();
            }
            self.turn.add(0, body.len());
            let part = self.unread.take(envelope.peer(), body.len());
            if !part.is_some_and(|part| listener.send(envelope, body, part)) {
                self.count_dropped(count);
            }
        }
    }

    /// Logs the first, and then every time that their number has doubled.
    fn count_dropped(&mut self, count: u64) {
        let before = self.dropped;
        self.dropped += count;
        if self.dropped.ilog2() != before.checked_ilog2().unwrap_or(u32::MAX) {
            tracing::warn!(
                dropped = self.dropped,
                "replies were dropped: their peer has gone, or does not read"
            );
        }
    }
}
