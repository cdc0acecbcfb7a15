//! The words of a long text, counted by two workers of a server in this process, and by a plain loop on one core.

use std::{
    collections::HashMap,
    io::{self, BufRead as _, Write as _},
    time::Instant,
};

use rpc_core::{Client, Server, remote};

use crate::{
    Failure,
    contestant::Threads,
    work::{KIB, MIB, count_words},
};

/// What it is called on the command line.
pub(crate) const NAME: &str = "words-50MB";
const LENGTH: usize = 50_000_000;
const VOCABULARY: u32 = 50_000;
// As in the example that counts words.
const CHUNK: usize = 64 * KIB;
const CONCURRENCY: usize = 16;

#[remote(idempotent)]
fn count_words_of_chunk(text: &str) -> HashMap<String, u64> {
    count_words(text)
}

/// Counts by both ways for each line of stdin, and writes how many seconds each took.
pub(crate) fn run() -> Result<(), Failure> {
    let text = text(LENGTH);
    Threads::Two.runtime()?.block_on(async {
        let server = Server::builder().workers(2).serve::<count_words_of_chunk>();
        let server = server.bind("tcp://127.0.0.1:0").await?.spawn()?;
        let client = Client::connect(server.endpoint()).await?;
        // Nothing else is to be done meanwhile, so that blocking here does no harm.
        for line in io::stdin().lock().lines() {
            line?;
            let start = Instant::now();
            let plain = count_words(&text);
            let plain_took = start.elapsed().as_secs_f64();
            let start = Instant::now();
            let all = count_by_calls(&client, &text).await?;
            let took = start.elapsed().as_secs_f64();
            if all != plain {
                return Err("the counts differ".into());
            }
            println!("{}", serde_json::to_string(&(plain_took, took))?);
            io::stdout().flush()?;
        }
        server.shutdown().await;
        Ok(())
    })
}

async fn count_by_calls(client: &Client, text: &str) -> Result<HashMap<String, u64>, Failure> {
    let mut results = count_words_of_chunk::map(client, chunks(text)).concurrency(CONCURRENCY);
    let mut all = HashMap::new();
    while let Some((_, counts)) = results.next().await {
        for (word, count) in counts? {
            *all.entry(word).or_default() += count;
        }
    }
    Ok(all)
}

/// The text in pieces, cut between words.
fn chunks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let at = CHUNK.min(rest.len());
        let end = rest[at..].find(' ').map_or(rest.len(), |space| at + space);
        let (chunk, after) = rest.split_at(end);
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Words that are as frequent as those of a language are, about: the nth is n times rarer than the first. It is the
/// same text every time.
fn text(length: usize) -> String {
    let mut text = String::with_capacity(length + MIB);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while text.len() < length {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let uniform = f64::from(u32::try_from(state >> 32).expect("it has 32 bits")) / f64::from(u32::MAX);
        push_word(&mut text, f64::from(VOCABULARY).powf(uniform));
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
        let text = text(10 * CHUNK);
        let chunks: Vec<_> = chunks(&text).collect();
        assert_eq!(chunks.concat(), text);
        assert_eq!(
            chunks.iter().map(|chunk| chunk.split_whitespace().count()).sum::<usize>(),
            text.split_whitespace().count()
        );
        assert!(chunks.len() > 9);
    }
}
