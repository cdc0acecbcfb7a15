//! Texts that a peer has chosen, cut so that error messages and logs stay small.

/// The longest name of a function or a parameter that is shown, in characters.
const NAME: usize = 64;

/// Returns the first `longest` characters of `text`.
pub(crate) fn cut(text: &str, longest: usize) -> &str {
    text.char_indices().nth(longest).map_or(text, |(end, _)| &text[..end])
}

/// Returns the first 64 characters of a name.
pub(crate) fn cut_name(name: &str) -> &str {
    cut(name, NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöü", 2), "äö");
        assert_eq!(cut("", 0), "");
        assert_eq!(cut_name(&"ä".repeat(65)), "ä".repeat(64));
    }
}
