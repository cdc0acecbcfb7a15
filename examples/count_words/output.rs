//! The output of the job. All of it goes to stdout.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, BufWriter, Write as _},
    time::Duration,
};

/// The number of times that each word occurs.
pub(crate) type Counts = HashMap<String, u64>;

/// The facts that are printed below the counts.
pub(crate) struct Summary {
    pub(crate) files: usize,
    pub(crate) bytes: usize,
    /// The number of calls, or of items of one call.
    pub(crate) parts: usize,
    /// The name of these: calls, or items.
    pub(crate) unit: &'static str,
    pub(crate) endpoints: Vec<String>,
    /// The time from the first call to the last result.
    pub(crate) took: Duration,
}

/// Prints the counts as one JSON object. The words are in the order of their code points.
pub(crate) fn print_json(counts: &Counts) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let sorted: BTreeMap<_, _> = counts.iter().collect();
    serde_json::to_writer(&mut out, &sorted)?;
    writeln!(out)?;
    out.flush()
}

/// Prints the `top` most frequent words, and the summary.
pub(crate) fn print(counts: &Counts, top: usize, summary: &Summary) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut words: Vec<_> = counts.iter().collect();
    words.sort_by(|(word_a, a), (word_b, b)| b.cmp(a).then(word_a.cmp(word_b)));
    for (word, count) in words.into_iter().take(top) {
        writeln!(out, "{count:>10}  {}", shown(word))?;
    }

    let Summary { files, bytes, parts, unit, endpoints, took } = summary;
    let (total, different) = (counts.values().sum::<u64>(), counts.len());
    let seconds = took.as_secs_f64();
    #[allow(clippy::cast_precision_loss)] // The output shows only a few digits.
    let (per_second, megabytes_per_second) =
        (*parts as f64 / seconds, *bytes as f64 / 1e6 / seconds);
    writeln!(out)?;
    writeln!(out, "words    {total} ({different} different)")?;
    writeln!(out, "files    {files} ({bytes} bytes)")?;
    writeln!(
        out,
        "{unit:<8} {parts} in {seconds:.3} s ({per_second:.0} {unit}/s, {megabytes_per_second:.1} MB/s)"
    )?;
    writeln!(out, "servers  {}", endpoints.join(", "))?;
    out.flush()
}

/// Returns a word in a form that a terminal can show: not too long, and without control characters.
fn shown(word: &str) -> String {
    const LONGEST: usize = 60;
    let visible = |c: char| {
        if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }
    };
    let mut shown: String = word.chars().take(LONGEST).map(visible).collect();
    if word.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
