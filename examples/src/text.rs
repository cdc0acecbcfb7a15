//! The splitting of text into words and chunks, at exactly the characters at which Python's
//! `str.split()` splits.

/// Returns true if Python's `str.isspace()` does. These characters are Unicode's `White_Space`, and
/// the four ASCII separators U+001C to U+001F, which Rust's [`char::is_whitespace`] leaves out.
#[must_use]
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// Returns the words of a text, as Python's `text.split()` does.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Splits a text into chunks of about `size` bytes, which together are the whole text. No chunk is
/// empty, so a size of 0 counts as 1. No word is split: a chunk ends at the first space from `size`
/// bytes on, however far away that is.
pub fn chunks(text: &str, size: usize) -> impl Iterator<Item = &str> {
    let size = size.max(1);
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut ends = rest.char_indices().filter(|&(at, c)| at >= size && is_space(c));
        let end = ends.next().map_or(rest.len(), |(at, _)| at);
        let (chunk, after) = rest.split_at(end);
        rest = after;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::count_words;

    /// The spaces according to Python: `[chr(c) for c in range(0x110000) if chr(c).isspace()]`.
    const PYTHON_SPACES: [char; 29] = [
        '\u{9}', '\u{a}', '\u{b}', '\u{c}', '\u{d}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{1f}',
        '\u{20}', '\u{85}', '\u{a0}', '\u{1680}', '\u{2000}', '\u{2001}', '\u{2002}', '\u{2003}',
        '\u{2004}', '\u{2005}', '\u{2006}', '\u{2007}', '\u{2008}', '\u{2009}', '\u{200a}',
        '\u{2028}', '\u{2029}', '\u{202f}', '\u{205f}', '\u{3000}',
    ];

    /// Characters that look like spaces or are invisible, but belong to a word.
    const NO_SPACES: [char; 5] = ['\u{180e}', '\u{200b}', '\u{2060}', '\u{feff}', '\0'];

    #[test]
    fn spaces_are_those_of_python() {
        let spaces: Vec<char> = ('\0'..=char::MAX).filter(|c| is_space(*c)).collect();
        assert_eq!(spaces, PYTHON_SPACES);
    }

    #[test]
    fn only_spaces_separate_words() {
        for space in PYTHON_SPACES {
            let text = format!("{space}one{space}{space}two{space}");
            assert_eq!(words(&text).collect::<Vec<_>>(), ["one", "two"], "{space:?}");
        }
        for c in NO_SPACES {
            let text = format!("one{c}two");
            assert_eq!(words(&text).collect::<Vec<_>>(), [&text], "{c:?}");
        }
    }

    #[test]
    fn an_empty_text_has_no_chunks() {
        assert_eq!(chunks("", 10).count(), 0);
    }

    #[test]
    fn a_word_longer_than_a_chunk_stays_whole() {
        let chunks: Vec<_> = chunks("a bbbbbbbbbb c", 2).collect();
        assert_eq!(chunks, ["a bbbbbbbbbb", " c"]);
    }

    #[test]
    fn the_size_may_fall_within_a_character() {
        let chunks: Vec<_> = chunks("äöü ß", 1).collect();
        assert_eq!(chunks, ["äöü", " ß"]);
    }

    #[test]
    fn counts_are_the_same_for_every_chunk_size() {
        let mut random = Random(1);
        for _ in 0..200 {
            let length = random.below(120);
            let text = random.text(length);
            let whole = count_words(&text);
            for size in 0..=text.len() + 1 {
                let pieces: Vec<_> = chunks(&text, size).collect();
                assert_eq!(pieces.concat(), text, "{size}");
                assert!(pieces.iter().all(|piece| !piece.is_empty()));
                let mut merged = HashMap::new();
                for (word, count) in pieces.into_iter().flat_map(count_words) {
                    *merged.entry(word).or_default() += count;
                }
                assert_eq!(merged, whole, "{text:?} in chunks of {size}");
            }
        }
    }

    /// A xorshift generator with a fixed seed, so that every run tests the same texts.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 33).expect("31 bits fit") % end
        }

        fn pick(&mut self, from: &[char]) -> char {
            from[self.below(from.len())]
        }

        /// Returns a text of few different letters, so that words repeat.
        fn text(&mut self, length: usize) -> String {
            (0..length)
                .map(|_| match self.below(10) {
                    0..3 => self.pick(&PYTHON_SPACES),
                    3 => self.pick(&NO_SPACES),
                    4 => self.pick(&['ß', '漢', '🦀']),
                    _ => self.pick(&['a', 'b']),
                })
                .collect()
        }
    }
}
