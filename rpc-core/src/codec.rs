//! Encodes values to MessagePack, and decodes them. No other file names rmp-serde. The files do no
//! I/O, and know nothing of the messages around the values.
//!
//! rmp-serde reads and writes. `serializer` and `deserializer` are layers around it that bound the
//! nesting.

mod deserializer;
mod error;
mod reader;
mod serializer;
#[cfg(test)]
mod tests;
mod writer;

pub use self::{error::DecodeError, reader::Reader, writer::Writer};
pub(crate) use self::{
    error::EncodeError,
    reader::{from_slice, read_again, read_exact, read_whole},
    writer::to_vec,
};

/// The deepest nesting of an argument, a result or an error: the number of arrays and maps that may
/// stand in each other. A deeper value is refused on both sides, so that none exhausts the stack.
pub(crate) const MAX_DEPTH: usize = 128;
/// The text about a value that is nested deeper.
const TOO_DEEP: &str = "nested deeper than 128 levels";
