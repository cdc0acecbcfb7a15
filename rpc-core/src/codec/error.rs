//! The reasons why a value is not encoded or decoded.

use crate::util::cut::cut;

/// The reason why a value could not be encoded.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(String);

/// The reason why bytes do not decode to the wanted type.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    message: String,
    /// The place in the value, such as `lines[2].from`. Empty if it is the whole value, or was not
    /// looked for.
    path: String,
}

impl EncodeError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl DecodeError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), path: String::new() }
    }

    /// Makes the error of a decoder that looked for the place of the fault.
    pub(super) fn traced(error: serde_path_to_error::Error<rmp_serde::decode::Error>) -> Self {
        let path = match error.path().to_string() {
            // Which is the whole value.
            path if path == "." => String::new(),
            path => shortened(&path),
        };
        Self { path, ..Self::from(error.into_inner()) }
    }

    /// Returns the place in the value, such as `lines[2].from`. Empty if it is the whole value.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Returns the end of a sentence about a value, which says where in it the fault is.
    pub(crate) fn place(&self) -> String {
        match self.path() {
            "" => String::new(),
            path => format!(", at `{path}`"),
        }
    }
}

/// Cuts a text that quotes the input of a peer.
fn shortened(text: &str) -> String {
    /// The longest text, in characters.
    const LONGEST: usize = 200;
    let part = cut(text, LONGEST);
    let end = if part.len() < text.len() { "…" } else { "" };
    // A peer has chosen it, and it may go to a terminal.
    let shown = part.chars().flat_map(|c| {
        let escaped = c.is_control().then(|| c.escape_default());
        let plain = (!c.is_control()).then_some(c);
        escaped.into_iter().flatten().chain(plain)
    });
    shown.chain(end.chars()).collect()
}

impl From<rmp_serde::decode::Error> for DecodeError {
    fn from(error: rmp_serde::decode::Error) -> Self {
        use rmp_serde::decode::Error;
        let text = match error {
            Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => {
                "the bytes end too early".to_owned()
            }
            Error::TypeMismatch(_) => "a value of another kind was found".to_owned(),
            other => other.to_string().replace("a borrowed byte array", "bytes (bin)"),
        };
        Self::new(shortened(&text))
    }
}
