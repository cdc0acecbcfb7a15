//! The words of a long text, counted by two workers of a server in this process, and by a plain
//! loop on one core.

use std::{
    collections::HashMap,
    future::Future,
    io::{self, BufRead as _, Write as _},
    mem, process, thread,
    time::Instant,
};

use rpc_core::{Client, Server, remote};
use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    contestant::Threads,
    usage,
    work::{KIB, MIB, count_words},
};

/// What it is called on the command line.
pub(crate) const NAME: &str = "long-text-50MB";
const LENGTH: usize = 50_000_000;
/// What the example that counts words sends in a call, and half the text: every chunk has the
/// frequent words again, so that larger ones leave less to be sent back and added up.
pub(crate) const CHUNKS: [usize; 2] = [64 * KIB, 24 * MIB];
/// So that half the text, and its call, may be one message.
const MAX_MESSAGE_SIZE: usize = 32 * MIB;
/// How many chunks are under way at once: two that are counted, and two more so that the workers
/// never wait.
const UNDER_WAY: usize = 4;

type Counts = HashMap<String, u64>;

#[remote(idempotent)]
fn count_words_of_chunk(text: &str) -> Counts {
    count_words(text)
}

/// How long something took, in seconds, and how much of the cores.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Took {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
}

/// The same text counted by each way.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct WordsRound {
    pub(crate) plain: Took,
    /// By two threads, half each, without any calls: what can be gained at all.
    pub(crate) threads: Took,
    /// In pieces of each of the sizes in [`CHUNKS`].
    pub(crate) calls: [Took; 2],
}

/// Counts by all ways for each line of stdin, and writes how long each took.
pub(crate) fn run() -> Result<(), Failure> {
    let text = text(LENGTH);
    Threads::Two.runtime()?.block_on(async {
        let server = Server::builder().workers(2).max_message_size(MAX_MESSAGE_SIZE);
        let server = server.serve::<count_words_of_chunk>();
        let server = server.bind("inproc://words").await?.spawn()?;
        let client =
            Client::builder().max_message_size(MAX_MESSAGE_SIZE).connect(server.endpoint()).await?;
        // Nothing else is to be done meanwhile, so that blocking here does no harm.
        for line in io::stdin().lock().lines() {
            line?;
            let (plain, expected) = took(async { Ok(count_words(&text)) }).await?;
            let (threads, counts) = took(async { count_by_threads(&text) }).await?;
            assert_same(&counts, &expected)?;
            let mut calls = [plain; 2];
            for (call, size) in calls.iter_mut().zip(CHUNKS) {
                let counts;
                (*call, counts) = took(count_by_calls(&client, &text, size)).await?;
                assert_same(&counts, &expected)?;
            }
            println!("{}", serde_json::to_string(&WordsRound { plain, threads, calls })?);
            io::stdout().flush()?;
        }
        server.shutdown().await;
        Ok(())
    })
}

async fn took<T>(what: impl Future<Output = Result<T, Failure>>) -> Result<(Took, T), Failure> {
    let (cpu, start) = (usage::cpu_time(process::id())?, Instant::now());
    let done = what.await?;
    let (wall, cpu) = (start.elapsed(), usage::cpu_time(process::id())? - cpu);
    Ok((Took { wall: wall.as_secs_f64(), cpu }, done))
}

fn assert_same(counts: &Counts, expected: &Counts) -> Result<(), Failure> {
    if counts == expected { Ok(()) } else { Err("the counts differ".into()) }
}

fn count_by_threads(text: &str) -> Result<Counts, Failure> {
    let (first, second) = text.split_at(end_of_chunk(text, text.len() / 2));
    thread::scope(|scope| {
        let counting = scope.spawn(|| count_words(first));
        let mut all = count_words(second);
        add_up(&mut all, counting.join().map_err(|_| "a thread has panicked")?);
        Ok(all)
    })
}

fn add_up(all: &mut Counts, mut counts: Counts) {
    // The fewer into the more.
    if all.len() < counts.len() {
        mem::swap(all, &mut counts);
    }
    for (word, count) in counts {
        *all.entry(word).or_default() += count;
    }
}

async fn count_by_calls(client: &Client, text: &str, size: usize) -> Result<Counts, Failure> {
    let mut results = count_words_of_chunk::map(client, chunks(text, size)).concurrency(UNDER_WAY);
    let mut all = HashMap::new();
    while let Some((_, counts)) = results.next().await {
        add_up(&mut all, counts?);
    }
    Ok(all)
}

/// Where the first word ends after `size` bytes.
fn end_of_chunk(text: &str, size: usize) -> usize {
    let at = size.min(text.len());
    text[at..].find(' ').map_or(text.len(), |space| at + space)
}

/// The text in pieces, cut between words.
fn chunks(text: &str, size: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (chunk, after) = rest.split_at(end_of_chunk(rest, size));
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Words about as frequent, as many and as long as those of English prose: by Zipf's law, with 5.8
/// bytes for each, and 3,400 different ones among ten thousand. It is the same text every time.
fn text(length: usize) -> String {
    const EXPONENT: f64 = 1.1;
    const VOCABULARY: f64 = 100_000.0;
    let mut text = String::with_capacity(length + KIB);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while text.len() < length {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let uniform =
            f64::from(u32::try_from(state >> 32).expect("it has 32 bits")) / f64::from(u32::MAX);
        let rest = 1.0 - uniform * (1.0 - VOCABULARY.powf(1.0 - EXPONENT));
        push_word(&mut text, rest.powf(1.0 / (1.0 - EXPONENT)));
        text.push(' ');
    }
    text
}

/// Frequent words are short.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // It is between one and the vocabulary's size.
fn push_word(text: &mut String, rank: f64) {
    let mut rank = rank as usize;
    while rank > 0 {
        text.push(char::from(b"etaoinshrdlu"[rank % 12]));
        text.push(char::from(b"aeiou"[rank % 5]));
        rank /= 12;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_the_text_and_cut_no_word() {
        let text = text(10 * KIB);
        let chunks: Vec<_> = chunks(&text, KIB).collect();
        assert!(chunks.len() > 9);
        assert_eq!(chunks.concat(), text);
        let words = |text: &str| text.split_whitespace().count();
        assert_eq!(chunks.iter().map(|chunk| words(chunk)).sum::<usize>(), words(&text));
    }

    #[test]
    fn the_text_is_like_prose() {
        let text = text(58_000);
        let counts = count_words(&text);
        assert!((9_500..10_500).contains(&counts.values().sum::<u64>()));
        assert!((3_000..3_800).contains(&counts.len()), "{}", counts.len());
    }
}
