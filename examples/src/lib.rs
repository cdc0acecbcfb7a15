//! The code that the examples share: the remote functions that `server` serves and `client` calls,
//! and the splitting of text for `count_words`.

pub mod child;
mod exit;
mod functions;
pub mod names;
pub mod text;

pub use crate::{
    exit::exit,
    functions::{
        DivideError, Visits, add, count_stream, count_words, crash, divide, echo, primes, server,
        sleep_ms, spin_ms, visits,
    },
};
