//! What the contestants are asked to do, and whether they did it.

use std::collections::HashMap;

use bytes::Bytes;

use crate::Failure;

/// The text whose words are counted: 89 characters, as in the measurements before there was this
/// program.
pub(crate) const SENTENCE: &str =
    "the quick brown fox jumps over the lazy dog and the dog sleeps on while the fox runs away";
const _: () = assert!(SENTENCE.len() == 89);

pub(crate) const KIB: usize = 1024;
pub(crate) const MIB: usize = 1024 * KIB;

/// A function, how many clients call it, and how many calls each of them has in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) function: Function,
    pub(crate) clients: usize,
    pub(crate) window: usize,
}

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    /// Gives back so many bytes.
    Echo(usize),
    /// Counts the words of [`SENTENCE`].
    CountWords,
}

impl Work {
    pub(crate) const fn echo(bytes: usize, window: usize) -> Self {
        Self { function: Function::Echo(bytes), clients: 1, window }
    }

    pub(crate) const fn count_words(window: usize) -> Self {
        Self { function: Function::CountWords, clients: 1, window }
    }

    /// A thousand clients, and one call of each.
    pub(crate) const MANY_CLIENTS: Self =
        Self { function: Function::Echo(64), clients: 1000, window: 1 };

    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for bytes in [64, 4 * KIB] {
            all.extend([1, 64, 1024].map(|window| Self::echo(bytes, window)));
        }
        // More of them would measure how much memory the machine has.
        all.push(Self::echo(MIB, 8));
        all.extend([1, 64, 1024].map(Self::count_words));
        all.push(Self::MANY_CLIENTS);
        all
    }

    pub(crate) fn named(name: &str) -> Result<Self, Failure> {
        Self::all()
            .into_iter()
            .find(|work| work.name() == name)
            .ok_or_else(|| format!("no work {name}").into())
    }

    /// What it is called on the command line.
    pub(crate) fn name(self) -> String {
        let function = match self.function {
            Function::Echo(bytes) => format!("echo-{}", size_of(bytes).replace(' ', "")),
            Function::CountWords => "count_words".to_owned(),
        };
        match self.clients {
            1 => format!("{function}-{}", self.window),
            clients => format!("{function}-{clients}-clients"),
        }
    }

    /// What it is called in the report.
    pub(crate) fn title(self) -> String {
        let function = match self.function {
            Function::Echo(bytes) => format!("echo of {}", size_of(bytes)),
            Function::CountWords => "count_words of 89 characters".to_owned(),
        };
        match (self.clients, self.window) {
            (1, 1024) => format!("{function}, 1,024 in flight"),
            (1, window) => format!("{function}, {window} in flight"),
            _ => format!("{function}, 1,000 clients, one call each"),
        }
    }

    /// The arguments of its calls.
    pub(crate) fn input(self) -> Input {
        match self.function {
            // No two neighbouring bytes are the same, so that pieces that were mixed up are
            // noticed.
            Function::Echo(bytes) => Input::Data((0..=250).cycle().take(bytes).collect()),
            Function::CountWords => Input::Text(SENTENCE),
        }
    }
}

/// As people write it.
pub(crate) fn size_of(bytes: usize) -> String {
    match bytes {
        MIB.. => format!("{} MiB", bytes / MIB),
        KIB.. => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} B"),
    }
}

/// What a call is made with.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Data(Bytes),
    Text(&'static str),
}

/// What a call has returned.
#[derive(Debug)]
pub(crate) enum Output {
    Data(Bytes),
    Counts(HashMap<String, u64>),
}

impl Input {
    /// Whether the output is right. Unless this is to be `thorough`, only its length is looked at,
    /// so that comparing does not become what is measured.
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

/// What every contestant runs.
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
    fn wrong_results_are_noticed() {
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
