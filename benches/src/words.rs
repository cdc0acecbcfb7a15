//! The counting of the words of a long text: by calls to a server with two workers in this process,
//! by two threads without calls, and by a plain loop on one core.

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

/// The name of this measurement on the command line.
pub(crate) const NAME: &str = "long-text-50MB";
const LENGTH: usize = 50_000_000;
/// The sizes of the chunks: what the example `count_words` sends per call, and half of the text.
/// The result of every chunk repeats the frequent words, so larger chunks leave less to send back
/// and to add up.
pub(crate) const CHUNKS: [usize; 2] = [64 * KIB, 24 * MIB];
/// The limit of message sizes. It admits half of the text, with its call, as one message.
const MAX_MESSAGE_SIZE: usize = 32 * MIB;
/// The number of chunks in flight: two that the workers count, and two more so that the workers
/// never wait.
const IN_FLIGHT: usize = 4;

type Counts = HashMap<String, u64>;

#[remote(idempotent)]
fn count_words_of_chunk(text: &str) -> Counts {
    count_words(text)
}

/// The wall-clock time and the CPU time that a task took, in seconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Took {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
}

/// The times of one round, in which each method counts the same text.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct WordsRound {
    /// A plain loop on one core.
    pub(crate) plain: Took,
    /// Two threads with half of the text each, without calls. They show the greatest possible
    /// gain.
    pub(crate) threads: Took,
    /// Calls with chunks of each size in [`CHUNKS`].
    pub(crate) calls: [Took; 2],
}

/// Counts by every method for each line of stdin, and prints the times.
pub(crate) fn run() -> Result<(), Failure> {
    let text = text(LENGTH);
    Threads::Two.runtime()?.block_on(async {
        let server = Server::builder().workers(2).max_message_size(MAX_MESSAGE_SIZE);
        let server = server.serve::<count_words_of_chunk>();
        let server = server.bind("inproc://words").await?.spawn()?;
        let client =
            Client::builder().max_message_size(MAX_MESSAGE_SIZE).connect(server.endpoint()).await?;
        // Reading blocks the thread, which does no harm: there is no other work in the meantime.
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
    // Adding the smaller map to the larger one takes fewer steps.
    if all.len() < counts.len() {
        mem::swap(all, &mut counts);
    }
    for (word, count) in counts {
        *all.entry(word).or_default() += count;
    }
}

async fn count_by_calls(client: &Client, text: &str, size: usize) -> Result<Counts, Failure> {
    let mut results = count_words_of_chunk::map(client, chunks(text, size)).concurrency(IN_FLIGHT);
    let mut all = HashMap::new();
    while let Some((_, counts)) = results.next().await {
        add_up(&mut all, counts?);
    }
    Ok(all)
}

/// Returns the position of the first end of a word from `size` bytes on.
fn end_of_chunk(text: &str, size: usize) -> usize {
    let at = size.min(text.len());
    text[at..].find(' ').map_or(text.len(), |space| at + space)
}

/// Returns the text in chunks, split between words.
fn chunks(text: &str, size: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (chunk, after) = rest.split_at(end_of_chunk(rest, size));
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Returns a text whose words are about as frequent, as many and as long as in English prose. Their
/// frequencies follow Zipf's law. A word and its space take 5.8 bytes on average, and ten thousand
/// words contain about 3,400 different ones. The text is the same in every run.
fn text(length: usize) -> String {
    const EXPONENT: f64 = 1.1;
    const VOCABULARY: f64 = 100_000.0;
    let mut text = String::with_capacity(length + KIB);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while text.len() < length {
        // The generator is xorshift64.
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

/// Appends the word with this rank of frequency. Frequent words are short.
// The rank lies between one and the size of the vocabulary, so it fits into an integer.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
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
    fn chunks_cover_the_text_and_split_no_word() {
        let text = text(10 * KIB);
        let chunks: Vec<_> = chunks(&text, KIB).collect();
        assert!(chunks.len() > 9);
        assert_eq!(chunks.concat(), text);
        let words = |text: &str| text.split_whitespace().count();
        assert_eq!(chunks.iter().map(|chunk| words(chunk)).sum::<usize>(), words(&text));
    }

    #[test]
    fn generated_text_resembles_prose() {
        let text = text(58_000);
        let counts = count_words(&text);
        assert!((9_500..10_500).contains(&counts.values().sum::<u64>()));
        assert!((3_000..3_800).contains(&counts.len()), "{}", counts.len());
    }
}
