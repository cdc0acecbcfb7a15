//! Reader of `tests/wire/messages.golden`, which has messages byte by byte. The head of that file
//! explains the notation.

const GOLDEN: &str = include_str!("../wire/messages.golden");

/// Returns every message with its name, in the order of the file.
///
/// # Panics
/// Panics if the file is malformed.
#[must_use]
pub fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let mut messages: Vec<(_, Vec<u8>)> = Vec::new();
    for line in GOLDEN.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_suffix(':') {
            messages.push((name, Vec::new()));
        } else {
            let (_, message) = messages.last_mut().expect("a name stands before its bytes");
            message.extend(line.split_whitespace().flat_map(bytes));
        }
    }
    messages
}

/// Parses a word, which is quoted text or one byte in hexadecimal.
fn bytes(word: &str) -> Vec<u8> {
    match word.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        Some(text) => text.replace('_', " ").replace('~', "_").into_bytes(),
        None => vec![u8::from_str_radix(word, 16).expect("a byte in hexadecimal")],
    }
}
