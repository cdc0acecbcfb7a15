//! The works: the functions that the contestants call, and the check of their results.

use std::collections::HashMap;

use bytes::Bytes;

use crate::Failure;

/// The text whose words are counted. It has 89 characters, as in the measurements that predate this
/// program.
pub(crate) const SENTENCE: &str =
    "the quick brown fox jumps over the lazy dog and the dog sleeps on while the fox runs away";
const _: () = assert!(SENTENCE.len() == 89);

pub(crate) const KIB: usize = 1024;
pub(crate) const MIB: usize = 1024 * KIB;

/// A function to call, the number of clients, and the number of calls or streams that each client
/// has at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) function: Function,
    pub(crate) clients: usize,
    pub(crate) window: usize,
}

/// The function to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    /// Returns its argument, which has this many bytes.
    Echo(usize),
    /// Counts the words of [`SENTENCE`].
    CountWords,
    /// Returns a stream of items of this many bytes. Each item counts as a call.
    Items(usize),
}

impl Work {
    pub(crate) const fn echo(bytes: usize, window: usize) -> Self {
        Self { function: Function::Echo(bytes), clients: 1, window }
    }

    pub(crate) const fn count_words(window: usize) -> Self {
        Self { function: Function::CountWords, clients: 1, window }
    }

    pub(crate) const fn items(bytes: usize, streams: usize) -> Self {
        Self { function: Function::Items(bytes), clients: 1, window: streams }
    }

    /// A thousand clients with one call in flight each.
    pub(crate) const MANY_CLIENTS: Self =
        Self { function: Function::Echo(64), clients: 1000, window: 1 };

    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for bytes in [64, 4 * KIB] {
            all.extend([1, 64, 1024].map(|window| Self::echo(bytes, window)));
        }
        // More than 8 calls of this size would measure how much memory the machine has.
        all.push(Self::echo(MIB, 8));
        all.extend([1, 64, 1024].map(Self::count_words));
        all.push(Self::MANY_CLIENTS);
        all.extend([1, 64].map(|streams| Self::items(64, streams)));
        all.push(Self::items(64 * KIB, 1));
        all
    }

    pub(crate) fn named(name: &str) -> Result<Self, Failure> {
        Self::all()
            .into_iter()
            .find(|work| work.name() == name)
            .ok_or_else(|| format!("no work {name}").into())
    }

    /// Returns the name of the work on the command line.
    pub(crate) fn name(self) -> String {
        let function = match self.function {
            Function::Echo(bytes) => format!("echo-{}", size_of(bytes).replace(' ', "")),
            Function::CountWords => "count_words".to_owned(),
            Function::Items(bytes) => format!("items-{}", size_of(bytes).replace(' ', "")),
        };
        match self.clients {
            1 => format!("{function}-{}", self.window),
            clients => format!("{function}-{clients}-clients"),
        }
    }

    /// Returns the title of the work in the report.
    pub(crate) fn title(self) -> String {
        let function = match self.function {
            Function::Echo(bytes) => format!("echo of {}", size_of(bytes)),
            Function::CountWords => "count_words of 89 characters".to_owned(),
            Function::Items(bytes) => {
                let streams = if self.window == 1 { "stream" } else { "streams" };
                return format!("items of {}, {} {streams}", size_of(bytes), self.window);
            }
        };
        match (self.clients, self.window) {
            (1, 1024) => format!("{function}, 1,024 in flight"),
            (1, window) => format!("{function}, {window} in flight"),
            _ => format!("{function}, 1,000 clients, one call each"),
        }
    }

    /// Returns the argument of the calls, or the items that are expected.
    pub(crate) fn input(self) -> Input {
        match self.function {
            Function::Echo(bytes) | Function::Items(bytes) => Input::Data(data(bytes)),
            Function::CountWords => Input::Text(SENTENCE),
        }
    }
}

/// Returns the bytes that calls and items carry. Neighboring bytes always differ, so that the check
/// detects parts that were mixed up.
pub(crate) fn data(bytes: usize) -> Bytes {
    (0..=250).cycle().take(bytes).collect()
}

/// Formats a size in bytes for people.
pub(crate) fn size_of(bytes: usize) -> String {
    match bytes {
        MIB.. => format!("{} MiB", bytes / MIB),
        KIB.. => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} B"),
    }
}

/// The argument of a call.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Data(Bytes),
    Text(&'static str),
}

/// The result of a call.
#[derive(Debug)]
pub(crate) enum Output {
    Data(Bytes),
    Counts(HashMap<String, u64>),
}

impl Input {
    /// Returns an error if the output is wrong. The content is compared only if the check is
    /// `thorough`, otherwise only the length is, so that the comparison does not dominate the
    /// measurement.
    pub(crate) fn check(&self, output: &Output, thorough: bool) -> Result<(), Failure> {
        let right = match (self, output) {
            (Self::Data(sent), Output::Data(got)) => {
                sent.len() == got.len() && (!thorough || sent == got)
            }
            (Self::Text(_), Output::Counts(counts)) if !thorough => counts.len() == 14,
            (Self::Text(text), Output::Counts(counts)) => *counts == count_words(text),
            _ => false,
        };
        if right { Ok(()) } else { Err("a call has returned the wrong result".into()) }
    }
}

/// Counts how often each word occurs. Every contestant runs this function.
pub(crate) fn count_words(text: &str) -> HashMap<String, u64> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word).or_default() += 1;
    }
    counts.into_iter().map(|(word, count)| (word.to_owned(), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_work_is_found_by_its_name() {
        for work in Work::all() {
            assert_eq!(Work::named(&work.name()).unwrap(), work);
        }
    }

    #[test]
    fn wrong_results_are_detected() {
        let text = Work::count_words(1).input();
        let mut counts = count_words(SENTENCE);
        for thorough in [false, true] {
            text.check(&Output::Counts(counts.clone()), thorough).unwrap();
        }
        counts.insert("the".to_owned(), 0);
        text.check(&Output::Counts(counts), true).unwrap_err();

        let data = Work::echo(64, 1).input();
        data.check(&Output::Data(Bytes::new()), false).unwrap_err();
        data.check(&Output::Data(vec![0; 64].into()), true).unwrap_err();
    }
}
